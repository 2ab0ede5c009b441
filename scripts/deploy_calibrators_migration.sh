#!/usr/bin/env bash
# Moves the bandpass calibrators of an installation from products.sqlite3 to calibrators.sqlite3.
#
#   cd <the project root, which holds state/>
#   scripts/deploy_calibrators_migration.sh [--skip-tests]
#   scripts/deploy_calibrators_migration.sh --rollback state/backups/YYYYMMDD_HHMMSS
#
# It checks, backs up, migrates, verifies and tests, and stops at the first step that fails; the calibrators
# database is then what it was before. A rollback by hand restores both databases from a backup.
# PIPELINE_STATE_DIR (or PIPELINE_ROOT), PIPELINE_PRODUCTS_DB and PIPELINE_CALIBRATORS_DB name other places;
# PYTHON names another interpreter.
set -euo pipefail

source_tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
state=${PIPELINE_STATE_DIR:-${PIPELINE_ROOT:-.}/state}
products=${PIPELINE_PRODUCTS_DB:-$state/products.sqlite3}
calibrators=${PIPELINE_CALIBRATORS_DB:-$state/calibrators.sqlite3}
python=${PYTHON:-python}
migration=$source_tree/backend/src/dsa110_contimg/database/migrate_calibrators.py
stamp=$(date -u +%Y%m%d_%H%M%S)
backup=$state/backups/$stamp
step="start"

say() { printf '%s\n' "$*"; }
fail() { say "FAILED at step '$step': $*" >&2; exit 1; }
usage() { sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
migrate() { "$python" "$migration" --products-db "$products" --calibrators-db "$calibrators" "$@"; }

restore() {  # restore COPY DATABASE [COPY DATABASE]
    "$python" - "$@" <<'PYTHON'
import sys
from pathlib import Path
from dsa110_contimg.database.backup import restore
from dsa110_contimg.errors import PipelineError
try:
    for copy, database in zip(sys.argv[1::2], sys.argv[2::2]):
        restore(Path(copy), Path(database))
except PipelineError as error:
    sys.exit(str(error))
PYTHON
}

roll_back_by_hand() {
    step="rollback"
    [ -f "$1/products.sqlite3.backup" ] && [ -f "$1/calibrators.sqlite3.backup" ] \
        || fail "$1 does not hold products.sqlite3.backup and calibrators.sqlite3.backup; nothing was changed"
    restore "$1/products.sqlite3.backup" "$products" "$1/calibrators.sqlite3.backup" "$calibrators" \
        || fail "not both of $products and $calibrators were restored"
    say "Rolled back: $products and $calibrators are what $1 holds."
}

# The migration only reads products.sqlite3: restoring it too would undo what others wrote meanwhile.
roll_back_on_failure() {
    local code=$?
    trap - EXIT INT TERM HUP
    [ "$code" -eq 0 ] && exit 0
    if [ -f "$backup/calibrators.sqlite3.backup" ]; then
        if restore "$backup/calibrators.sqlite3.backup" "$calibrators"; then
            say "Step '$step' failed. Rolled back: $calibrators is what it was; the backups are in $backup." >&2
        else
            say "Step '$step' failed, and so did the rollback: run $0 --rollback $backup" >&2
        fi
    else
        say "Step '$step' failed before anything was changed." >&2
    fi
    exit "$code"
}

check() {
    step="check"
    [ -d "$state" ] || fail "there is no folder $state: go to the project root, or set PIPELINE_STATE_DIR"
    [ -w "$state" ] || fail "folder $state cannot be written: check its permissions"
    [ -f "$products" ] || fail "there is no $products: check PIPELINE_PRODUCTS_DB"
    "$python" -c "import dsa110_contimg" \
        || fail "$python cannot import dsa110_contimg: activate its environment, or run pip install -e $source_tree"
    local needed free
    # There may be no calibrators database yet, of which du complains.
    needed=$({ du -kc "$products"* "$calibrators"* 2>/dev/null || true; } | tail -n 1 | cut -f 1)
    free=$(df -Pk "$state" | tail -n 1 | awk '{print $4}')
    [ "$free" -gt $((2 * needed)) ] || fail "the backups need $needed KiB and $state has $free KiB free"
    migrate --dry-run || fail "the databases cannot be migrated"
}

verify() {
    step="verify"
    migrate --dry-run | grep -q '^0 calibrators would be copied' || fail "not every calibrator has arrived"
    "$python" - "$calibrators" <<'PYTHON' || fail "the calibrators cannot be read"
import sqlite3
import sys
conn = sqlite3.connect(sys.argv[1])
cursor = conn.execute("SELECT COUNT(*) FROM bandpass_calibrators")
print(f"Calibrators migrated: {cursor.fetchone()[0]}")
conn.close()
PYTHON
}

run_tests() {
    step="tests"
    if ! "$python" -c "import pytest" 2>/dev/null; then
        say "pytest is not installed: the tests are left out."
        return
    fi
    (
        cd "$source_tree"
        env -u PIPELINE_STATE_DIR -u PIPELINE_ROOT -u PIPELINE_PRODUCTS_DB -u PIPELINE_CALIBRATORS_DB \
            "$python" -m pytest -q -p no:cacheprovider tests/integration/test_calibrators_integration.py \
            tests/database/test_calibrators_db.py tests/database/test_catalog_query.py \
            tests/database/test_skymodel_storage.py
    ) || fail "the installed code fails its tests"
}

deploy() {
    trap roll_back_on_failure EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    say "1/4 check"
    check
    say "2/4 back up and migrate"
    step="migrate"
    migrate --backup-dir "$backup" || fail "the migration failed"
    say "3/4 verify"
    verify
    say "4/4 test"
    if [ "$1" = yes ]; then run_tests; else say "The tests are left out (--skip-tests)."; fi
    say "Done. To undo it: $0 --rollback $backup"
}

case "${1:-}" in
    --rollback)
        [ $# -eq 2 ] || { usage >&2; exit 2; }
        roll_back_by_hand "$2"
        ;;
    "" | --skip-tests)
        [ $# -le 1 ] || { usage >&2; exit 2; }
        mkdir -p "$state/logs" 2>/dev/null || true
        if [ -w "$state/logs" ]; then
            exec > >(tee -a "$state/logs/deploy_calibrators_$stamp.log") 2>&1
        fi
        if [ "${1:-}" = --skip-tests ]; then deploy no; else deploy yes; fi
        ;;
    -h | --help) usage ;;
    *) usage >&2; exit 2 ;;
esac
