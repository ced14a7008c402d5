// Package deploy tests what is in the folder deploy as those read it who run it: Helm, Kubernetes,
// KEDA, the Prometheus operator and Docker Compose. It is a module of its own, since nothing else
// needs theirs.
package deploy
