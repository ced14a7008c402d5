package franz

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"inceptor/service/stream"
)

// repair replaces the outputs that were refused, so that everything can be
// published in a new transaction. It withholds the partitions for which that is not
// possible. again is a reason to pause before; err is a fault that does not pass.
func (tx *transaction) repair(ctx context.Context) (again, err error) {
	failed := tx.takeFailed()
	for i, f := range failed {
		failed[i].err = tx.explainKeyless(ctx, f)
	}
	suspects, denied := map[*output]error{}, map[*output]error{}
	for _, f := range failed {
		topic := f.Record.Topic
		switch {
		case tx.topics.wantsKey(f.Record): // replaced below, with all others that have none
		case !f.alone && f.Record.Key != nil && tx.topics.compacted(topic) && errors.Is(f.err, kerr.InvalidRecord): // shared a batch with one without a key
		case refused(f.err):
			suspects[f.output] = f.err
		case forbidden(f.err):
			denied[f.output] = fmt.Errorf("publish to %s: %w", topic, f.err)
		case permanent(f.err):
			return nil, fmt.Errorf("publish to %s: %w", topic, f.err)
		default:
			again = fmt.Errorf("publish to %s: %w", topic, f.err)
		}
	}
	for _, o := range tx.outputs {
		if err := tx.replaceKeyless(o); err != nil {
			denied[o] = err
		}
	}
	tx.replaceSuspects(suspects, denied)
	for o, err := range denied {
		if id := o.Source.Source(); tx.covered[id] != nil { // otherwise it is withheld for another output
			tx.withheld.withhold(tx, id, o.Record.Topic, err)
		}
	}
	return again, nil
}

// replaceSuspects replaces outputs that were refused, and adds those for which there
// is no replacement to denied. If several were refused they may have shared a batch:
// then each is first sent in a batch of its own, which shows the guilty one.
func (tx *transaction) replaceSuspects(suspects, denied map[*output]error) {
	for o, err := range suspects {
		if !o.alone && len(suspects) > 1 {
			o.alone = true
			if tx.suspectBytes == nil {
				tx.suspectBytes = map[string]int64{}
			}
			tx.suspectBytes[o.Record.Topic] += o.Record.Size()
			continue
		}
		tx.replaced = true
		if err := tx.replace(o, err); err != nil {
			denied[o] = err
		}
	}
}

// learnLimits remembers the topics that took each output alone, but not together.
func (tx *transaction) learnLimits() {
	for topic, bytes := range tx.suspectBytes {
		if !tx.replaced {
			tx.topics.limits[topic] = bytes / 2
		}
	}
}

// replace replaces a refused record with what Config.ReplaceRefused makes of it. It
// returns why there is no replacement.
func (tx *transaction) replace(o *output, reason error) error {
	err := o.Replace(tx.cfg, refusal(fmt.Errorf("publish to %s: %w", o.Record.Topic, reason)))
	if err == nil {
		o.alone = true
	}
	return err
}

// replaceKeyless replaces an output without a key if its topic wants one. It
// returns why there is no replacement.
func (tx *transaction) replaceKeyless(o *output) error {
	for tx.topics.wantsKey(o.Record) {
		if err := tx.replace(o, stream.ErrKeyless); err != nil {
			return err
		}
		o.alone = false // nothing else is in doubt
	}
	return nil
}

// explainKeyless returns why an output without a key was refused. The error wraps
// stream.ErrKeyless if the topic may be compacted. franz-go drops the broker's
// message, so the topic's configuration is looked up.
func (tx *transaction) explainKeyless(ctx context.Context, f failure) error {
	topic := f.Record.Topic
	if f.Record.Key != nil || !errors.Is(f.err, kerr.InvalidRecord) || tx.topics.wantsKey(f.Record) {
		return f.err
	}
	compacted, err := lookUpCompacted(ctx, kadm.NewClient(tx.client), topic)
	switch {
	case err != nil:
		return fmt.Errorf("%w (perhaps %w; its configuration cannot be read: %w)", f.err, stream.ErrKeyless, err)
	case compacted:
		tx.topics.compactedUntil[topic] = time.Now().Add(compactedFor)
	}
	return f.err
}
