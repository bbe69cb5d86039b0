#!/usr/bin/env bash
# Makes a machine what its name says; Vagrant runs it there, as root: `provision.sh server|client|stranger PUBLIC-KEY`.
# `provision.sh --packages` prints what it installs with apt, which is in the box of scripts/vagrant-test already.
set -euo pipefail

# The commands of docs/install.md, as they stand there: indented, above the first output.
documented_steps() {
    sed -n '/^## Install$/,/^```text$/s/^    //p' "$1/docs/install.md"
}

packages_of() {
    case $1 in
    server) echo nftables ;; # besides what the documented steps install
    client) echo python3-venv python3-pytest openssh-client rsync ;;
    stranger) echo nmap python3 ;;
    esac
}

if [ "${1:-}" = --packages ]; then
    checkout=$(dirname "$0")/..
    documented_steps "$checkout" | sed -n 's/^sudo apt-get install -y //p' | tr ' ' '\n'
    for role in server client stranger; do packages_of "$role" | tr ' ' '\n'; done
    exit
fi

role=$1
public_key=$2
checkout=/gatekeeper
export DEBIAN_FRONTEND=noninteractive
say() { echo "$role: $*"; }
interface_of() { ip -o -4 address show | awk -v prefix="$1." 'index($4, prefix) == 1 {print $2}'; }

# -- what all have: addresses, names, a way in for the test

declare -A numbers=([server]=10 [client]=20 [stranger]=30)
world=$(interface_of 192.168.57)
address=fd57::${numbers[$role]}/64
if systemctl --quiet is-active systemd-networkd; then
    install -d "/etc/systemd/network/50-vagrant-$world.network.d"
    printf '[Network]\nAddress=%s\nIPv6AcceptRA=no\n' "$address" > "/etc/systemd/network/50-vagrant-$world.network.d/ipv6.conf"
    networkctl reload
else
    printf 'iface %s inet6 static\n    address %s\n' "$world" "$address" > /etc/network/interfaces.d/world-ipv6
    grep -q '^source.*interfaces\.d' /etc/network/interfaces || echo 'source /etc/network/interfaces.d/*' >> /etc/network/interfaces
fi
ip -6 address replace "$address" dev "$world" nodad
sed -i '/# gatekeeper$/d; /^127\.0\.1\.1 /d' /etc/hosts
for name in "${!numbers[@]}"; do
    echo "192.168.57.${numbers[$name]} $name # gatekeeper"
    echo "fd57::${numbers[$name]} $name # gatekeeper"
    echo "192.168.58.${numbers[$name]} $name-control # gatekeeper"
done >> /etc/hosts
grep -qxF "$public_key" ~vagrant/.ssh/authorized_keys || echo "$public_key" >> ~vagrant/.ssh/authorized_keys

wanted=$(packages_of "$role")
if [ -n "$wanted" ]; then
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of names
    apt-get install -qq -y --no-install-recommends $wanted
fi

# -- what each has

case $role in
server)
    # A second port of sshd's, which nobody guards: by it the test tells a server that is down from a door that is shut.
    printf 'Port 22\nPort 2200\n' > /etc/ssh/sshd_config.d/ports.conf
    systemctl restart ssh
    say "installs gatekeeper by the steps of docs/install.md"
    cd "$checkout"
    documented_steps . | sed 's/YOUR-ADDRESS/192.168.58.20/' > /run/documented-steps
    bash -eux /run/documented-steps 2>&1 | tee /var/log/documented-steps
    # Guarded on the side of the world only: Vagrant and the test come in by other networks.
    sed -i "s/port: tcp\/22 .*/port: tcp\/22\n    interface: $world/" /etc/gatekeeper/rules.yaml
    gatekeeper check
    systemctl restart gatekeeper
    ;;
client)
    chown vagrant: ~vagrant/.ssh/control_key
    chmod 600 ~vagrant/.ssh/control_key
    say "installs gatekeeper"
    python3 -m venv /opt/gatekeeper
    cd "$checkout"
    /opt/gatekeeper/bin/pip install --quiet --disable-pip-version-check .
    ln -sf /opt/gatekeeper/bin/gatekeeper /usr/local/bin/gatekeeper
    ;;
stranger) ;;
esac
touch /var/lib/provisioned
say "is ready"
