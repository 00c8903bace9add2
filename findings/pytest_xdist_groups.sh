#!/usr/bin/env bash
# pytest 9.2.0, pytest-xdist 3.8.0: `--dist loadgroup` runs, but marks of `xdist_group` have no effect.
#
# pytest-xdist appends the group to the private field `_nodeid` of an item and reads it back from `nodeid`. In pytest
# 9.2.0 `nodeid` does not follow that field, so all tests look ungrouped. There is no error and no warning. Tests that
# must share a process, such as users of one expensive fixture, are spread over all of them. With pytest 8.4.2 the same
# tests share one process. `--dist loadscope` still groups by module with both.
#
# Output seen:
#   pytest 8.4.2, loadgroup: 1 process
#   pytest 9.2.0, loadgroup: 2 processes
#   pytest 9.2.0, loadscope: 1 process
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cat >"$folder/test_group.py" <<'PYTHON'
import os
import time

import pytest


@pytest.mark.xdist_group("together")
@pytest.mark.parametrize("number", range(6))
def test_process(number):
    time.sleep(0.2)
    with open(os.environ["SEEN"], "a") as file:
        print(os.environ["PYTEST_XDIST_WORKER"], file=file)
PYTHON

num_processes() { # VERSION OF PYTEST, WAY TO DISTRIBUTE
  export SEEN="$folder/seen-$1-$2"
  (cd "$folder" && "$folder/$1/bin/python" -m pytest -q -p no:cacheprovider -n 2 --dist "$2" test_group.py >/dev/null)
  sort -u "$SEEN" | wc -l | tr -d ' '
}

for version in 8.4.2 9.2.0; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/python" -m pip install --quiet "pytest==$version" pytest-xdist==3.8.0
done
old="$(num_processes 8.4.2 loadgroup)"
new="$(num_processes 9.2.0 loadgroup)"
scope="$(num_processes 9.2.0 loadscope)"
echo "pytest 8.4.2, loadgroup: $old process"
echo "pytest 9.2.0, loadgroup: $new processes"
echo "pytest 9.2.0, loadscope: $scope process"
[ "$old $new $scope" = "1 2 1" ]
