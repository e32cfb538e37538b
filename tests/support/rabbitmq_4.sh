#!/bin/sh
# Runs a program of RabbitMQ 4: `rabbitmq_4.sh rabbitmqctl ...`. It is in a copy of Debian 13, which `tests/run --install`
# puts under tests/.cache. What is bound into the copy is bound in a mount namespace of this process's own, and gone
# with it: whoever deletes the copy deletes nothing else.
set -eu
copy=$(dirname "$(readlink -f "$0")")/../.cache/rabbitmq-4
if [ "$1" != --bound ]; then
    # Without root's rights, in a user namespace where one has them.
    [ "$(id -u)" = 0 ] && user= || user="--user --map-root-user"
    # shellcheck disable=SC2086
    exec unshare $user --mount --propagation private "$0" --bound "$@"
fi
shift
# The node's own directory, HOME, is where it is outside.
for directory in /proc /dev /tmp "$(dirname "$HOME")"; do
    mkdir -p "$copy/$directory"
    mount --rbind "$directory" "$copy/$directory"
done
program=$1
shift
exec chroot "$copy" "/usr/lib/rabbitmq/bin/$program" "$@"
