// Package flight takes the records of a driver from the fetch to the acknowledged output, in order
// and within bounds.
//
// A Budget bounds the memory of all partitions. A Flight is the window of one partition: records go
// in by offset, finish in any order, and come out by offset. A Worker calls the handler until there
// is an answer. A Publisher writes the answers in order, at least once, through a driver's
// Transport.
package flight
