package main

import (
	"context"
	"fmt"
	"time"

	"inceptor/service"
)

type replayCmd struct {
	service.Config `embed:""`

	Reason     []string  `help:"Only dead letters with one of these reasons." group:"Choice"`
	Key        []string  `help:"Only records with one of these keys." group:"Choice"`
	Partition  []int     `help:"Only records that came from one of these partitions." group:"Choice"`
	Since      time.Time `help:"Only records of this time or later, as 2006-01-02T15:04:05Z." placeholder:"TIME" group:"Choice"`
	Until      time.Time `help:"Only records before this time." placeholder:"TIME" group:"Choice"`
	Limit      int       `default:"0" help:"Records to send, at most; 0: no bound." group:"Choice"`
	MaxReplays int       `default:"3" help:"Records that were sent back that often, and came back as often, are left." group:"Choice"`
	DryRun     bool      `help:"Tell what would be sent, and send nothing." group:"Choice"`
}

// Help is the long help.
func (*replayCmd) Help() string {
	return `Reads the dead-letter topic as it is now, and sends the chosen records back to the input topic: key, value, headers and time as they were, to ` +
		`the partition that they came from, with one more header, inceptor-replays, that counts. Each is told on a line of its own. The dead letters stay where they are: ` +
		`a second replay sends the same records again, so choose, and try with --dry-run first. A dead letter that had to leave its value out cannot be sent.`
}

func (c *replayCmd) Run(ctx context.Context, a *app) error {
	problems := c.Kafka.Validate() // nothing else is used
	if c.Limit < 0 {
		problems = append(problems, fmt.Errorf("limit: %d is negative", c.Limit))
	}
	if c.MaxReplays < 1 {
		problems = append(problems, fmt.Errorf("max-replays: %d is less than 1", c.MaxReplays))
	}
	if len(problems) > 0 {
		return usageError{problems}
	}
	filter := service.ReplayFilter{
		Reasons: c.Reason, Keys: c.Key, Partitions: c.Partition, Since: c.Since, Until: c.Until, Limit: c.Limit, MaxReplays: c.MaxReplays,
	}
	left := 0
	sent, err := service.Replay(ctx, c.Config, a.log, filter, c.DryRun, func(r service.Replayed) {
		letter := fmt.Sprintf("%s  %s  key %q", printable(r.Letter.ID), printable(r.Letter.Reason), r.Letter.Original.Key)
		if r.Skip != "" {
			left++
			fmt.Fprintf(a.stdout, "left  %s: %s\n", letter, printable(r.Skip))
			return
		}
		fmt.Fprintf(a.stdout, "send  %s  replay %d\n", letter, r.Letter.Replays+1)
	})
	verb := "sent"
	if c.DryRun {
		verb = "would be sent"
	}
	fmt.Fprintf(a.stdout, "%d %s, %d left\n", sent, verb, left)
	return err
}
