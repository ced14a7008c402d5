// Package kafkago delivers at least once, on segmentio/kafka-go.
//
// Of kafka-go it uses ConsumerGroup, for membership, and Client, for
// everything else. Not Reader: it cannot tell the markers of transactions from
// records, jumps to offset 1 when a fetch holds nothing but a batch that
// compaction has emptied, and hides the high watermark of an idle partition.
// Not Writer: it lingers, cannot be cancelled, and gives up. Not
// Client.Fetch: it decompresses all that a response holds, without a bound. Not
// Generation.CommitOffsets: it is tied to the one connection that is lost just
// when a last commit would save repeats.
package kafkago
