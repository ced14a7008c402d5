//go:build !linux

package host

// AvailableMemory is unknown here.
func AvailableMemory() (uint64, bool) { return 0, false }

// MemoryLimit is unknown here.
func MemoryLimit() (uint64, bool) { return 0, false }

// ResidentMemory is unknown here.
func ResidentMemory() (anonymous, file uint64) { return 0, 0 }

// PrivateMemory is unknown here.
func PrivateMemory() uint64 { return 0 }
