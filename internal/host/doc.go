// Package host asks the operating system for the priority of threads, for memory that is left, for
// the identity of files and for locks on them. Where a system has no answer, the functions say so.
package host
