package franz

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A transactor is franz-go's side of a session's transactions, one after the
// other. The session's loop alone uses it.
type transactor struct {
	// Set once.
	*sessionContext
	id      string // transactional
	group   *kgo.GroupTransactSession
	client  *kgo.Client
	hanging *hangingTransaction

	begun bool // franz-go is in a transaction, as always after the first generation; of the session's loop
}

// newTransactor makes the client of a session, with options besides those given.
func newTransactor(common *sessionContext, id string, timeout time.Duration, opts []kgo.Opt) (*transactor, error) {
	group, err := kgo.NewGroupTransactSession(append(opts,
		kgo.TransactionalID(id),
		kgo.TransactionTimeout(timeout),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(compression(common.cfg.Compression)),
		kgo.ProducerBatchMaxBytes(maxRequest),
		kgo.ProduceRequestTimeout(produceTimeout),
		kgo.UnknownTopicRetries(-1),
	)...)
	if err != nil {
		return nil, err
	}
	client := group.Client()
	return &transactor{
		sessionContext: common, id: id, group: group, client: client,
		hanging: newHangingTransaction(client, common.cfg, common.conns, common.sessionTimeout, id),
	}, nil
}

// begin begins the first transaction of a generation.
func (t *transactor) begin(ctx context.Context, g *generation) (err error) {
	// After a rebalance, franz-go aborts the next transaction. So that one is
	// ended here, while it has nothing in it.
	t.polls.exclusive(func() {
		if t.begun {
			_, err = t.group.End(ctx, kgo.TryAbort)
			g.rewound()
		}
		if err == nil && (!t.begun || t.brokerLost.Load()) {
			err = t.endHanging(ctx)
		}
		if err == nil {
			err = t.group.Begin()
		}
		t.begun = true
	})
	if err != nil {
		return fmt.Errorf("begin a transaction as %s: %w", t.id, err)
	}
	return nil
}

// endHanging ends our last transaction if it hangs. A broker may have left it so
// if it could not be reached for a while.
func (t *transactor) endHanging(ctx context.Context) error {
	t.brokerLost.Store(false)
	return t.hanging.end(ctx, !t.begun)
}
