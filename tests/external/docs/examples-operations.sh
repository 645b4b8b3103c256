platform; token VIEW; serve
