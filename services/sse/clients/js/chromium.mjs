// Debian's Chromium, driven by playwright-core, which brings no browser of its own.
import {existsSync} from 'node:fs';
import {chromium} from 'playwright-core';

const executablePath = process.env.CHROMIUM || ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) => existsSync(path));

const args = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

/** Starts a browser, with a profile of its own that goes when it closes. */
export function launch() {
  if (!executablePath) throw new Error('no Chromium: apt-get install chromium, or set CHROMIUM');
  return chromium.launch({executablePath, args});
}
