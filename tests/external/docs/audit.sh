platform; token VIEW
serve --audit-head file:/mnt/elsewhere/heads.jsonl
for _ in $(seq 100); do [ -s /mnt/elsewhere/heads.jsonl ] && break; sleep 0.1; done
cp /mnt/elsewhere/heads.jsonl heads.jsonl
