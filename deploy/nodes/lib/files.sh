# shellcheck shell=sh
# Files of the node, which are written as a whole or not at all. Paths are those that the node itself uses.

readonly KEPT=before-trow

# Write standard input to a file, unless it has that content already. What was there and is not the agent's own is kept
# beside it. 1, after a line of the report, where that cannot be done.
put() { # AREA PATH MODE
    if write_file "$2" "$3"; then return 0; fi
    rm -f "$TROW_HOST$2.trow-new" 2>/dev/null || :
    blocked "$1" "$2 cannot be written" "add ${2%/*} to nodes.hostPaths, or free space on the node"
    return 1
}

write_file() { # PATH MODE
    file=$TROW_HOST$1
    new=$file.trow-new
    mkdir -p "${file%/*}" 2>/dev/null && { cat >"$new"; } 2>/dev/null || return 1
    if cmp -s "$new" "$file"; then
        rm -f "$new"
        return
    fi
    if [ -e "$file" ] && [ ! -e "$file.$KEPT" ] && ! is_ours "$1"; then
        cp -p "$file" "$file.$KEPT" || return 1
    fi
    chmod "$2" "$new" && sync "$new" && mv -f "$new" "$file" && sync "${file%/*}"
}

# Whether the agent wrote a file: its own names, or its mark in one of the first lines.
is_ours() { # PATH
    case $1 in */trow-*) return 0 ;; esac
    head -n 4 "$TROW_HOST$1" | grep -q "node agent of Trow"
}

# Take a file away, and put back what it had replaced.
restore_file() { # PATH
    file=$TROW_HOST$1
    if [ -e "$file.$KEPT" ]; then
        mv -f "$file.$KEPT" "$file"
    elif [ -e "$file" ] && is_ours "$1"; then
        rm -f "$file"
    else
        return 0
    fi
    sync "${file%/*}"
}
