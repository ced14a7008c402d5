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
	Since      time.Time `help:"Only records of this time or later, such as 2006-01-02T15:04:05Z." placeholder:"TIME" group:"Choice"`
	Until      time.Time `help:"Only records before this time." placeholder:"TIME" group:"Choice"`
	Limit      int       `default:"0" help:"Largest number of records to send. 0: no limit." group:"Choice"`
	MaxReplays int       `default:"3" help:"Skip records that have already been sent back this often." group:"Choice"`
	DryRun     bool      `help:"Show what would be sent, and send nothing." group:"Choice"`
}

// Help is the long help.
func (*replayCmd) Help() string {
	return `Reads the dead-letter topic up to its present end and sends the chosen records back to the input ` +
		`topic. Key, value, headers and time are the original ones, and so is the partition. One more ` +
		`header, inceptor-replays, counts how often the record was sent back. Each record is listed on a ` +
		`line of its own. The dead letters stay in their topic, so a second replay sends the same records ` +
		`again: choose, and use --dry-run first. A dead letter without its value cannot be sent.`
}

// Validate returns every problem, each naming its key.
func (c *replayCmd) Validate() []error {
	problems := c.Kafka.Validate() // the other settings are not used
	if c.Limit < 0 {
		problems = append(problems, fmt.Errorf("limit: %d is negative", c.Limit))
	}
	if c.MaxReplays < 1 {
		problems = append(problems, fmt.Errorf("max-replays: %d is less than 1", c.MaxReplays))
	}
	return problems
}

func (c *replayCmd) Run(ctx context.Context, a *app) error {
	filter := service.ReplayFilter{
		Reasons: c.Reason, Keys: c.Key, Partitions: c.Partition,
		Since: c.Since, Until: c.Until, Limit: c.Limit, MaxReplays: c.MaxReplays,
	}
	left := 0
	sent, err := service.Replay(ctx, c.Config, a.log, filter, c.DryRun, func(r service.Replayed) {
		letter := fmt.Sprintf("%s  %s  key %q",
			printable(r.Letter.ID), printable(r.Letter.Reason), r.Letter.Original.Key)
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
