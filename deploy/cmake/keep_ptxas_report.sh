#!/bin/sh
# Runs a CUDA compile command. What ptxas says of each kernel (registers, spills) goes to OBJECT.ptxas,
# everything else to stderr as ever:
#
#   sh keep_ptxas_report.sh [ccache] nvcc -Xptxas -v ... -o OBJECT
object=
previous=
for argument in "$@"; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
if [ -z "$object" ]; then
  exec "$@"
fi
"$@" 2>"$object.stderr"
status=$?
grep -v -e '^ptxas info' -e 'bytes stack frame' -e '^$' "$object.stderr" >&2
mv "$object.stderr" "$object.ptxas"
exit $status
