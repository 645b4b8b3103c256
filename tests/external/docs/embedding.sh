platform; token VIEW,TRANSACT
