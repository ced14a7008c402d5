package kafkago

import (
	"context"

	"inceptor/service/stream"
)

// A Sideline publishes records beside the stream: in no order, and with no
// offset that waits for them. Safe for concurrent use.
type Sideline struct {
	cluster   *cluster
	publisher *stream.Publisher
}

// NewSideline connects to nothing yet. Close it.
func NewSideline(cfg stream.Config) (*Sideline, error) {
	codec, err := compression(cfg.Compression)
	if err != nil {
		return nil, err
	}
	cfg.Observer = stream.Unobserved{} // what goes wrong here is no partition's trouble
	cluster := connect(cfg)
	return &Sideline{cluster, &stream.Publisher{
		Config: cfg, Trouble: stream.NewTrouble(cfg.Log),
		Transport: &transport{cfg: cfg, cluster: cluster, codec: codec},
	}}, nil
}

// Publish writes one record to the partition of its topic that outputs of
// r.Partition go to, and returns once the brokers have acknowledged it. It
// tries as long as ctx allows.
func (s *Sideline) Publish(ctx context.Context, r stream.Record) error {
	return s.publisher.Publish(ctx, r.Source(), r)
}

// Close closes the connections.
func (s *Sideline) Close() { s.cluster.close() }
