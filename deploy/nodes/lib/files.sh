# shellcheck shell=sh
# Files of the node, which are written as a whole or not at all. Paths are those that the node itself uses.

readonly KEPT=before-trow

# Write a text to a file, unless it has that content already. What was there and is not the agent's own is kept beside
# it. 1, after a line of the report, where that cannot be done.
put() { # AREA PATH MODE TEXT
    if write_file "$2" "$3" "$4"; then return 0; fi
    rm -f "$TROW_HOST$2.trow-new" "$TROW_HOST$2.$KEPT.trow-new" 2>/dev/null || :
    blocked "$1" "$2 cannot be written" "add ${2%/*} to nodes.hostPaths, or free space on the node"
    return 1
}

# The text comes from memory: a file in between would be cut where the disk with temporary files is full.
write_file() { # PATH MODE TEXT
    file=$TROW_HOST$1
    new=$file.trow-new
    [ ! -d "$file" ] && mkdir -p "${file%/*}" 2>/dev/null && rm -f "$new" 2>/dev/null || return 1
    printf '%s\n' "$3" | { umask 077 && cat >"$new"; } 2>/dev/null || return 1
    if [ ! -L "$file" ] && cmp -s "$new" "$file"; then
        rm -f "$new"
        return
    fi
    keep "$1" && chmod "$2" "$new" && sync "$new" && mv -f "$new" "$file" && sync "${file%/*}"
}

# Copy what is there and is somebody else's, as a whole or not at all; a link stays a link.
keep() { # PATH
    if ! is_there "$TROW_HOST$1" || is_there "$TROW_HOST$1.$KEPT" || is_ours "$1"; then return 0; fi
    copy=$TROW_HOST$1.$KEPT.trow-new
    rm -f "$copy" && cp -p -P "$TROW_HOST$1" "$copy" 2>/dev/null || return 1
    [ -L "$copy" ] || sync "$copy" || return 1
    mv -f "$copy" "$TROW_HOST$1.$KEPT"
}

is_there() { # PATH AS THE AGENT SEES IT; also a link that leads nowhere
    [ -e "$1" ] || [ -L "$1" ]
}

# Whether the agent wrote a file: its own names, or its mark in one of the first lines.
is_ours() { # PATH
    case ${1##*/} in trow-*) return 0 ;; esac
    [ -f "$TROW_HOST$1" ] && head -n 4 "$TROW_HOST$1" | grep -q "node agent of Trow"
}

# The agent of another Trow that wrote a file; empty where there is none. Each leaves the files of the other alone.
other_agent() { # PATH
    if [ ! -f "$TROW_HOST$1" ]; then return 0; fi
    writer=$(head -n 4 "$TROW_HOST$1" | sed -n 's/^# Written by the node agent of Trow in the namespace \([a-z0-9-]*\), .*/\1/p')
    if [ "$writer" != "$NAMESPACE" ]; then echo "$writer"; fi
}

# The first line of a file that the agent wrote.
mark() {
    echo "# Written by the node agent of Trow${NAMESPACE:+ in the namespace $NAMESPACE}, which keeps it as it is."
}

# Whether a file may be written; 1, after a line of the report, where it is another's.
is_free() { # AREA PATH
    other=$(other_agent "$2")
    if [ -z "$other" ]; then return 0; fi
    blocked "$1" "$2 is kept by the node agent of Trow in the namespace $other" \
        "let that one put its nodes back (nodes.restore); if it is gone, delete the file"
    return 1
}

# Take a file away, and put back what it had replaced.
restore_file() { # PATH
    file=$TROW_HOST$1
    rm -f "$file.trow-new" "$file.$KEPT.trow-new" 2>/dev/null || :
    if is_there "$file.$KEPT"; then
        mv -f "$file.$KEPT" "$file"
    elif is_there "$file" && is_ours "$1"; then
        rm -f "$file"
    else
        return 0
    fi
    sync "${file%/*}"
}
