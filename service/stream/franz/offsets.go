package franz

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

// groupOffsets returns what cfg.Group has committed of partitions of cfg.Inputs; nil
// stands for all of them. Partitions whose offset an open transaction may yet change
// are in unstable, and not in stable.
func groupOffsets(ctx context.Context, client *kgo.Client, cfg stream.Config, partitions []stream.Partition) (stable map[stream.Partition]int64, unstable []stream.Partition, err error) {
	failed := func(err error) error {
		return fmt.Errorf("look up the offsets of group %s: %w", cfg.Group, err)
	}
	inputs, err := kadm.NewClient(client).Metadata(ctx, cfg.Inputs...)
	if err != nil {
		return nil, nil, failed(err)
	}
	group := kmsg.NewOffsetFetchRequestGroup()
	group.Group = cfg.Group
	names := map[kadm.TopicID]string{}
	for _, name := range cfg.Inputs {
		input := inputs.Topics[name]
		names[input.ID] = name
		topic := kmsg.NewOffsetFetchRequestGroupTopic()
		topic.Topic, topic.TopicID = name, input.ID
		if partitions == nil {
			topic.Partitions = input.Partitions.Numbers()
		}
		for _, p := range partitions {
			if p.Topic == name {
				topic.Partitions = append(topic.Partitions, int32(p.ID))
			}
		}
		if len(topic.Partitions) > 0 { // none would mean all
			group.Topics = append(group.Topics, topic)
		}
	}
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = true
	req.Groups = append(req.Groups, group)
	res, err := req.RequestWith(ctx, client)
	if err == nil {
		stable, unstable, err = readOffsets(res, names)
	}
	if err != nil {
		return nil, nil, failed(err)
	}
	return stable, unstable, nil
}

// readOffsets takes an answer apart. names are those of topics by id.
func readOffsets(res *kmsg.OffsetFetchResponse, names map[kadm.TopicID]string) (stable map[stream.Partition]int64, unstable []stream.Partition, err error) {
	stable = map[stream.Partition]int64{}
	for _, g := range res.Groups {
		if err := kerr.ErrorForCode(g.ErrorCode); err != nil {
			return nil, nil, err
		}
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				id := stream.Partition{Topic: cmp.Or(t.Topic, names[t.TopicID]), ID: int(p.Partition)}
				switch err := kerr.ErrorForCode(p.ErrorCode); {
				case errors.Is(err, kerr.UnstableOffsetCommit):
					unstable = append(unstable, id)
				case err != nil:
					return nil, nil, err
				default:
					stable[id] = p.Offset
				}
			}
		}
	}
	return stable, unstable, nil
}

// errUnstable says why partitions have no stable offset.
func errUnstable(partitions []stream.Partition) error {
	slices.SortFunc(partitions, stream.ComparePartitions)
	return fmt.Errorf("a transaction has not ended in partitions %v: %w", partitions, kerr.UnstableOffsetCommit)
}
