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

// maxSlots bounds the numbers that are tried: of processes of one group on one machine.
const maxSlots = 1000

// stableID returns a transactional id that no other process has until held is closed. The
// next process on this machine gets it again, and so ends what a killed one left open. It
// is the group, the machine's name, and the lowest number that no other process there
// holds. A number is held by a socket in Linux' abstract namespace. The kernel gives it
// back however the process ends. Containers share the namespace if they share the host's
// network, and with it the host's name.
func stableID(cfg stream.Config) (id string, held io.Closer) {
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

// slotID returns a different id for each group, machine and number. It has no hyphen of
// the machine's name: with them, group "a-b" on "c" would have the id of group "a" on
// "b-c". It begins with the group's name and a hyphen, for which permissions can be given.
func slotID(group, host string, slot int) string {
	return fmt.Sprintf("%s-%s-%d", group, strings.NewReplacer("%", "%25", "-", "%2D").Replace(host), slot)
}

// newID returns a transactional id that nobody else has. It begins with the group's name
// and a hyphen, for which permissions can be given.
func newID(group string) string { return group + "-" + rand.Text() }
