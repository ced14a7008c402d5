//go:build !linux

package model

func availableMemory() (uint64, bool) { return 0, false }

func privateMemory() uint64 { return 0 }
