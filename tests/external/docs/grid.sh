platform; token VIEW; OTHER=$ID; token VIEW,MANAGE; ID=$OTHER; serve
