// Package zoo has only tests. They load SavedModels as people have them, and compare the answers
// of package infer with Python TensorFlow's. Each model works, or works with an inceptor.yaml, or
// is refused with a text that says what to write. None is answered wrongly.
package zoo
