//go:build !linux && !darwin

package service

import "os"

// mapJournal maps nothing: there is no journal on this system.
func mapJournal(string, string) (*os.File, journalFile, error) { return nil, nil, nil }

func unlockJournal(*os.File) error { return nil }

func inode(string) uint64 { return 0 }

func journalFolder(dir string) (string, error) { return dir, nil }
