platform; COOKIE=none
