// Package zoo has no code: its tests load SavedModels as people have them, and
// compare what the model package answers with Python TensorFlow. Each model
// works, works with an inceptor.yaml, or is refused with a text that says what
// to write; none is answered wrongly.
package zoo
