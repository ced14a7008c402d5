// Package stream is the seam between inceptor and Kafka. A driver below it
// reads topics as a member of a consumer group, hands each record to a
// Handler, publishes what the handler returns and commits: delivery belongs
// to the driver alone, meaning to the handler alone.
//
// # What every driver guarantees
//
//   - Nothing is lost. An offset is committed only after the broker has
//     acknowledged, with all replicas in sync, the output of every record
//     before it.
//   - Order. Handlers of one partition run side by side; their outputs are
//     published, for each output topic, in the order of the inputs. An input
//     partition always goes to the same output partition: its own number,
//     modulo the number of the output topic's partitions. Topics with equal
//     counts so stay co-partitioned, keyed or not.
//   - Bounds. No more records and bytes of a partition are in flight than
//     Config.Window says; behind a full window nothing is fetched. What all
//     partitions take together is bounded by Config.TotalBytes. What is
//     compressed is decompressed within Config.BatchBytes; a batch that needs more is
//     passed, with what Config.Unread returns published in its place.
//   - Patience. A handler's error is retried with growing pauses, for ever
//     unless Config.GivenUp says otherwise, and so is whatever may pass on the broker's side: gone, frozen, frozen
//     and replaced, no leader, not enough replicas. An output that its topic does not take,
//     nor anything in its place, costs only its partition, which waits; so
//     does whatever is wrong with what is read. Run
//     returns an error only when trying again cannot help: permissions to
//     read and to join the group; at the start, credentials.
//   - Credentials may change: they are asked for at each handshake. A driver
//     that has worked tries refused ones again, until they fit.
//   - Membership does not hang on handlers: however long one takes, the
//     heartbeat goes on.
//   - A rebalance and a stop drain what is in flight, for at most
//     Config.DrainTimeout. So an orderly stop, or a rebalance, of handlers
//     that end in time causes no repeats.
//
// The kafkago driver gives it at least once: a record is repeated when the
// process is killed between publishing and committing, or when the broker's
// acknowledgement is lost; the prediction's id tells the reader so. It also
// reads uncommitted records of transactions; their markers are recognised and
// skipped. The franz driver gives it exactly once, in transactions, to readers
// of committed records; or at least once, where a lost acknowledgement repeats
// nothing. It reads only committed records.
//
// # Parts for drivers
//
// Budget bounds the memory of all partitions. Flight is the window of one
// partition: in by offset, finished in any order, out by offset. Worker calls
// the handler until there is an answer. Publisher writes answers in order, at
// least once, through a driver's Transport. Trouble keeps outages from flooding
// the log, and Connections can be broken off. The package streamtest holds the
// suite that each driver passes, against an in-memory broker and against a real
// one.
package stream
