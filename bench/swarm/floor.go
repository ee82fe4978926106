package swarm

import "strconv"

// floorSockets is the floor's frames: an edge's, but the request says all, and nothing is acknowledged.
type floorSockets struct{ edgeSockets }

func (d floorSockets) request(b []byte, c *client) []byte { return appendFloorRequest(b, c) }

func (d floorSockets) opened(c *client, _ []byte) error {
	d.s.run(c)
	return nil
}

// floorStreams is the floor's event streams.
type floorStreams struct{ edgeStreams }

func (d floorStreams) request(b []byte, c *client) []byte { return appendFloorRequest(b, c) }

func (d floorStreams) opened(c *client, head []byte) error {
	if err := d.edgeStreams.opened(c, head); err != nil {
		return err
	}
	d.s.run(c)
	return nil
}

func appendFloorRequest(b []byte, c *client) []byte {
	b = append(b, "GET /floor?topics="...)
	for i, t := range c.topics {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(t), 10)
	}
	return append(b, " HTTP/1.1"...)
}
