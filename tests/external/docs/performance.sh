# Its short form: figures are nobody's here.
countersign() { case $1 in bench) command countersign "$@" --tokens 1000 --rounds 1 --seconds 1 ;; *) command countersign "$@" ;; esac; }
