//go:build !linux

package host

// AvailableMemory is unknown here.
func AvailableMemory() (uint64, bool) { return 0, false }

// MemoryLimit is unknown here.
func MemoryLimit() (uint64, bool) { return 0, false }

// PrivateMemory is unknown here.
func PrivateMemory() uint64 { return 0 }
