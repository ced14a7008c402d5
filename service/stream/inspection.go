package stream

// An Inspection is what a look at the brokers shows, without reading or changing anything there.
// What could not be looked at, because of an error before it, is left out.
type Inspection struct {
	Brokers []InspectedBroker // those of Config.Brokers, then those that the cluster names

	// Err is why nothing could be asked, although a broker answers: the credentials are refused, or
	// there was no answer. What follows is empty then.
	Err error

	Topics []InspectedTopic // the inputs and the outputs

	// Group is why the process would not be let into the group; nil: it may join.
	Group error

	// ID is the transactional id that was asked for; empty: delivery uses none. IDErr is why it may
	// not be used.
	ID    string
	IDErr error
}

// An InspectedBroker is one address.
type InspectedBroker struct {
	Address    string
	Advertised bool // by the cluster, and not in Config.Brokers
	Err        error
}

// An InspectedTopic is one topic, with its limits if it exists and may be described.
type InspectedTopic struct {
	Topic
	Input   bool
	Missing bool
	Err     error // a permission that is lacking, or why the topic cannot be described
}
