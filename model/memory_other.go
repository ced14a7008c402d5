//go:build !linux

package model

func availableMemory() (uint64, bool) { return 0, false }

// MemoryLimit is how many bytes this process may take at most; false: not known.
func MemoryLimit() (uint64, bool) { return 0, false }

func privateMemory() uint64 { return 0 }
