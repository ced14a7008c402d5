package diagnosis

import (
	"fmt"
	"slices"
	"strings"
)

// maxMembersTold is how many members of a group an error lists at most.
const maxMembersTold = 10

// GroupWait returns, as an error, what a process waits for that joins a consumer group, or nil.
// state is the group's state at its coordinator; members are the client ids and hosts of its
// members.
func GroupWait(group, state string, members []string) error {
	members = slices.Sorted(slices.Values(members))
	if more := len(members) - maxMembersTold; more > 0 {
		members = append(members[:maxMembersTold], fmt.Sprintf("and %d more", more))
	}
	switch state {
	case "PreparingRebalance":
		return fmt.Errorf("group %s is rebalancing, and waits until each of its members has finished what it has in flight and joins again, "+
			"or its rebalance timeout ends: %s", group, strings.Join(members, ", "))
	case "CompletingRebalance":
		return fmt.Errorf("group %s is rebalancing, and waits for the member that assigns the partitions: one of %s", group, strings.Join(members, ", "))
	}
	return nil
}
