package franz

import (
	"fmt"
	"strings"
	"testing"
)

// Ids differ while they are held. After that the same ones come again.
func TestStableID(t *testing.T) {
	cfg := config("x:1")
	a, first := stableID(cfg)
	b, second := stableID(cfg)
	if a == b || !strings.HasPrefix(a, "g-") {
		t.Errorf("%s and %s", a, b)
	}
	first.Close()
	if again, third := stableID(cfg); again != a {
		t.Errorf("%s, want %s again", again, a)
	} else {
		third.Close()
	}
	second.Close()
}

// No two groups on two machines have an id in common, and each id begins with its group's
// prefix.
func TestSlotID(t *testing.T) {
	ids := map[string]string{}
	for _, group := range []string{"a", "a-b", "a-b-c", "a-b-0", "a%2Db", "-", "b"} {
		for _, host := range []string{"c", "b-c", "b-c-0", "b%2Dc", "0", "-", "b--c", "a"} {
			for _, slot := range []int{0, 1, 10} {
				id, who := slotID(group, host, slot), fmt.Sprintf("group %s on %s, %d", group, host, slot)
				if other := ids[id]; other != "" {
					t.Errorf("%s is of %s and of %s", id, who, other)
				}
				if !strings.HasPrefix(id, group+"-") {
					t.Errorf("%s of %s", id, who)
				}
				ids[id] = who
			}
		}
	}
}
