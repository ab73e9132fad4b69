# The machines of pages about a legacy VM, as network namespaces around this shell, which is the
# operator's and the controller's. Sourced, in a network and with mounts of its own.
#
#   client 10.0.1.2 ──┐                      ┌── old 10.0.7.12      stock, at 8090
#   vm 10.0.7.11 ─────┤ here 10.0.9.5 ───────┤
#   orders, at 8080   └ controller           └── target 10.9.7.21   both
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/etc
# Some files are not for this user; none of them matters here.
cp -r --preserve=mode,links /etc/. /run/etc/ 2>/dev/null
mount --bind /run/etc /etc
mount -t tmpfs tmpfs /var/lib
rm -f /etc/hosts /etc/resolv.conf
printf '127.0.0.1 localhost\n10.0.9.5 controller.corp.example\n' >/etc/hosts
printf 'nameserver 10.0.9.5\n' >/etc/resolv.conf

# at MACHINE COMMAND…
at() { nsenter --net="/run/netns/$1" "${@:2}"; }
# Who is root here already needs no other way.
sudo() { "$@"; }
export -f sudo

# place MACHINE ADDRESS: connects it with here, which routes.
place() {
    local router=${2%.*}.1
    ip netns add "$1"
    ip link add "to-$1" type veth peer name eth0 netns "$1"
    ip address add "$router" peer "$2" dev "to-$1"
    ip link set "to-$1" up
    at "$1" ip link set lo up
    at "$1" ip address add "$2/32" dev eth0
    at "$1" ip link set eth0 up
    at "$1" ip route add "$router" dev eth0
    at "$1" ip route add default via "$router"
}

# web MACHINE PORT: a server that says which machine it is on.
web() {
    local files="/run/web/$1"
    mkdir -p "$files"
    printf 'from %s\n' "$1" >"$files/index.html"
    # Not by a function: what runs must be the job that the shell ends.
    nsenter --net="/run/netns/$1" "${CROSSFADE_TEST_PYTHON:-python3}" \
        -m http.server -d "$files" "$2" >/dev/null 2>&1 &
}

sysctl -qw net.ipv4.ip_forward=1
ip address add 10.0.9.5/32 dev lo
place client 10.0.1.2
place vm 10.0.7.11
place old 10.0.7.12
place target 10.9.7.21
web vm 8080
web old 8090
web target 8080
web target 8090
for server in 10.0.7.11:8080 10.0.7.12:8090 10.9.7.21:8080 10.9.7.21:8090; do
    at client curl -s --retry 50 --retry-delay 1 --retry-connrefused "http://$server/" >/dev/null
done
