package franz

import (
	"crypto/rand"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"os"
	"slices"
	"strings"

	"inceptor/service/stream"
)

// maxSlots bounds how many processes of one group on one machine are looked
// at for a place between them.
const maxSlots = 1000

// stableID is a transactional id that this process has for itself until it
// releases it, and that the next one on this machine gets again: the first
// thing it does with it ends what a killed one left open. It is the group, the
// machine, and the lowest number that no other process there holds. A number is held
// by a socket in Linux' abstract namespace, which the kernel gives back however the
// process ends, and which containers share exactly if they share the host's network, and with
// it its name.
func stableID(cfg stream.Config) (id string, release io.Closer) {
	host, err := os.Hostname()
	if err != nil {
		return newID(cfg.Group), io.NopCloser(nil)
	}
	h := fnv.New64a()
	brokers := slices.Sorted(slices.Values(cfg.Brokers))
	fmt.Fprintf(h, "%s %q", strings.Join(brokers, ","), cfg.Group)
	for slot := range maxSlots {
		l, err := net.Listen("unix", fmt.Sprintf("@inceptor-%x-%d", h.Sum64(), slot))
		if err == nil {
			return slotID(cfg.Group, host, slot), l
		}
	}
	return newID(cfg.Group), io.NopCloser(nil)
}

// slotID is another one for each group, machine and number: the machine's name has
// no hyphen in it, which group "a-b" on "c" would share with group "a" on "b-c".
// It begins with the group's name and a hyphen, which permissions can be given for.
func slotID(group, host string, slot int) string {
	return fmt.Sprintf("%s-%s-%d", group, strings.NewReplacer("%", "%25", "-", "%2D").Replace(host), slot)
}

// newID is a transactional id that nobody else has. Like the others it begins
// with the group's name, which permissions can be given for.
func newID(group string) string { return group + "-" + rand.Text() }
