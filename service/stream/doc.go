// Package stream is the contract between the service and a Kafka driver. A driver reads topics as
// a member of a consumer group, hands each record to a Handler, publishes what the handler
// returns, and commits. The driver alone knows delivery; the handler alone knows what a record
// means.
//
// # What every driver guarantees
//
//   - No record is lost. An offset is committed only after all replicas in sync have the output
//     of every record before it.
//   - Order. Handlers of one partition run in parallel. Their outputs are published in the order
//     of the inputs, for each output topic. Input partition n always goes to output partition n,
//     modulo the number of the output topic's partitions. So topics with equal counts stay
//     co-partitioned, keyed or not.
//   - Bounds. Config.Window bounds the records and bytes of a partition in flight; nothing is
//     fetched while the window is full. Config.TotalBytes bounds the memory of all partitions
//     together. Config.BatchBytes bounds what is decompressed: a batch that needs more is
//     skipped, and what Config.ReplaceUnread returns is published in its place.
//   - Retries. A handler's error is retried with growing pauses, for ever unless Config.OnFailure
//     says otherwise. So is every fault of the brokers that may pass: gone, frozen, replaced, no
//     leader, too few replicas. If a topic takes neither an output nor anything in its place,
//     only that partition waits; the same holds for a partition that cannot be read. Run returns
//     an error only when a retry cannot help: a missing permission to read or to join the group,
//     and at the start refused credentials.
//   - Credentials may change: they are asked for at each handshake. A driver that has logged in
//     once retries refused credentials until they fit.
//   - Slow handlers do not cost membership: heartbeats go on while they run.
//   - A rebalance and a stop wait for the records in flight, for at most Config.DrainTimeout. If
//     the handlers end in time, an orderly stop or a rebalance repeats nothing.
//
// With kafka.client=kafka-go, the default, at least once is package kafkago. A record is repeated
// if the process is killed between publishing and committing, or if the broker's acknowledgement
// is lost; the prediction's id tells readers so. It also reads the uncommitted records of
// transactions, and skips their markers.
//
// The franz driver delivers exactly once, in transactions, to readers of committed records. Or it
// delivers at least once, and a lost acknowledgement repeats nothing. It reads only committed
// records.
//
// What both drivers are made of is in packages under internal. Package streamtest holds the suite
// that each driver passes, against an in-memory broker and against a real one.
package stream
