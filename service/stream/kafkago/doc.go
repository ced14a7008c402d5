// Package kafkago delivers at least once, on segmentio/kafka-go.
//
// It uses kafka-go's ConsumerGroup for membership and its Client for everything else. It does not
// use:
//
//   - Reader: it cannot tell the markers of transactions from records, jumps to offset 1 if a
//     fetch has nothing but a batch that compaction has emptied, and hides the high watermark of
//     an idle partition.
//   - Writer: it lingers, cannot be cancelled, and gives up.
//   - Client.Fetch: it decompresses a whole response without a bound.
//   - Generation.CommitOffsets: it needs the one connection that is lost just when a last commit
//     would save repeats.
package kafkago
