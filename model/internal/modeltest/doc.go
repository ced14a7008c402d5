// Package modeltest has what the tests of the model packages share: small SavedModels, images,
// files that hang, a log, and a check for leaks.
package modeltest
