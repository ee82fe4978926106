// A WebSocket over HTTP/2 (RFC 8441), as browsers make it when the server offers that: node websocket-h2.mjs https://host:port
// Prints the first message, or "not offered".
import {connect} from 'node:http2';

const session = connect(process.argv[2], {rejectUnauthorized: false});
session.on('error', (e) => { throw e; });
session.on('remoteSettings', (settings) => {
  if (!settings.enableConnectProtocol) {
    console.log('not offered');
    session.close();
    return;
  }
  const stream = session.request({
    ':method': 'CONNECT', ':protocol': 'websocket', ':scheme': 'https', ':path': '/v1/ws', ':authority': 'localhost', 'sec-websocket-version': '13',
  });
  stream.on('response', (headers) => console.error(headers[':status']));
  stream.once('data', (frame) => { // a text frame of less than 64 KiB
    console.log(frame.subarray((frame[1] & 127) === 126 ? 4 : 2).toString());
    session.destroy();
  });
});
