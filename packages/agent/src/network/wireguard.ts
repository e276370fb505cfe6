import { spawn } from 'node:child_process'
import { existsSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import { type Clock, type Logger, PlatformError, runCommand } from '@roost/base'

export interface Peer {
  readonly publicKey: string
  /** `address:port`. */
  readonly endpoint: string
  readonly allowedIps: readonly string[]
}

export interface WireguardOptions {
  readonly interface: string
  readonly listenPort: number
  readonly privateKeyFile: string
  /** Written for a moment, with the private key in it: on tmpfs. */
  readonly configFile: string
  /** Output of the user-space implementation. */
  readonly logFile: string
  readonly clock: Clock
  readonly log: Logger
}

const START_MS = 10_000
const KEEPALIVE_S = 25
const MTU = 1420

/**
 * One WireGuard interface: the kernel's where it has one, else wireguard-go, which outlives the agent. The interface of
 * the latter is gone as soon as its process is, so that "the interface is there" says that it works.
 */
export class Wireguard {
  readonly #options: WireguardOptions
  #applied = ''

  constructor(options: WireguardOptions) {
    this.#options = options
  }

  /** True if it had to be made: its routes are gone then. */
  async ensure(): Promise<boolean> {
    const { interface: name, log } = this.#options
    if (interfaceNames().includes(name)) return false
    this.#applied = ''
    try {
      await runCommand(['ip', 'link', 'add', name, 'type', 'wireguard'])
    } catch (error) {
      log.info('the kernel has no WireGuard: starting wireguard-go', { error })
      await this.#startUserspace()
    }
    return true
  }

  /** Brings peers in line; sessions of those that stay go on. */
  async configure(peers: readonly Peer[]): Promise<void> {
    const { interface: name, listenPort, privateKeyFile, configFile } = this.#options
    const text = [
      '[Interface]',
      `ListenPort = ${listenPort}`,
      `PrivateKey = ${readFileSync(privateKeyFile, 'utf8').trim()}`,
      ...peers.flatMap((peer) => [
        '[Peer]',
        `PublicKey = ${peer.publicKey}`,
        `Endpoint = ${peer.endpoint}`,
        `AllowedIPs = ${peer.allowedIps.join(', ')}`,
        `PersistentKeepalive = ${KEEPALIVE_S}`,
      ]),
      '',
    ].join('\n')
    if (text === this.#applied) return
    // By a file: the standard input of a child is a socket here, and /dev/stdin can't be opened then.
    writeFileSync(configFile, text, { mode: 0o600 })
    try {
      await runCommand(['wg', 'syncconf', name, configFile])
    } finally {
      rmSync(configFile, { force: true })
    }
    this.#applied = text
  }

  async up(): Promise<void> {
    await runCommand(['ip', 'link', 'set', 'dev', this.#options.interface, 'mtu', `${MTU}`, 'up'])
  }

  async #startUserspace(): Promise<void> {
    const { interface: name, logFile, clock } = this.#options
    const output = openSync(logFile, 'a', 0o600)
    const child = spawn('wireguard-go', ['-f', name], {
      detached: true,
      stdio: ['ignore', output, output],
      cwd: '/',
      // Without bounds its buffers grow to 200 MB under load.
      env: { ...process.env, GOMEMLIMIT: '48MiB', GOGC: '50', LOG_LEVEL: 'error' },
    })
    const ended: { why: string | null } = { why: null }
    child.on('error', (error) => {
      ended.why = error.message
    })
    child.on('exit', (code, signal) => {
      ended.why ??= `it ended with ${code ?? signal}`
    })
    child.unref()
    const deadline = clock.now() + START_MS
    while (clock.now() < deadline) {
      if (ended.why !== null) break
      if (interfaceNames().includes(name) && (await answers(`/var/run/wireguard/${name}.sock`)))
        return
      await clock.sleep(10)
    }
    child.kill('SIGKILL')
    throw new PlatformError('internal', 'start wireguard-go', {
      cause: new Error(ended.why ?? `no interface ${name} after ${START_MS} ms`),
      retry: 'later',
    })
  }
}

/** Of the network namespace that we are in, whatever /sys shows. */
export function interfaceNames(): string[] {
  return readFileSync('/proc/net/dev', 'utf8')
    .split('\n')
    .slice(2)
    .map((line) => line.split(':', 1)[0]?.trim() ?? '')
    .filter((name) => name !== '')
}

function answers(socket: string): Promise<boolean> {
  if (!existsSync(socket)) return Promise.resolve(false)
  return new Promise((resolve) => {
    const connection = createConnection(socket)
    connection.on('connect', () => {
      connection.destroy()
      resolve(true)
    })
    connection.on('error', () => resolve(false))
  })
}
