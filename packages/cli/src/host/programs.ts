import { spawn } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { PlatformError } from '@roost/base'
import type { Limits } from './limits.ts'
import { isAlive, OWNER_VARIABLE, signal, startedAt } from './processes.ts'
import { compileCache, sourceRoot } from './source-root.ts'

/** A program that is kept running: started again whenever it ends, whether or not anybody is logged in. */
export interface Program {
  readonly name: string
  readonly argv: readonly [string, ...string[]]
  /** Name under /run/netns; null: this machine's own. */
  readonly netns: string | null
  /** Pid files; on tmpfs, so that they never speak of an earlier boot. */
  readonly pidDir: string
  readonly logFile: string
  readonly owner: string
  readonly environment?: Readonly<Record<string, string>>
  /** Without them it may use what the machine has. */
  readonly limits?: Limits
}

export interface RunningProgram {
  readonly name: string
  readonly pid: number | null
  readonly since: string | null
  /** How often it ended by itself since its keeper runs, and how the last time; null: never. */
  readonly ended: {
    readonly times: number
    /** So often in a row within 10 s of its start: it can't go on like this by itself. */
    readonly soon: number
    readonly code: number
    readonly at: string
  } | null
}

const STOP_MS_MAX = 10_000
/** What a program may inherit from the terminal it was started from: how to reach the world, and nothing private. */
const INHERITED = [
  'PATH',
  'LANG',
  'TZ',
  'HTTP_PROXY',
  'HTTPS_PROXY',
  'NO_PROXY',
  'http_proxy',
  'https_proxy',
  'no_proxy',
  'SSL_CERT_FILE',
  'SSL_CERT_DIR',
  'NODE_EXTRA_CA_CERTS',
]

/** Starts its keeper in a session of its own, unless it runs already. */
export function startProgram(program: Program): void {
  mkdirSync(program.pidDir, { recursive: true })
  rmSync(join(program.pidDir, `${program.name}.stop`), { force: true })
  writeLimits(program)
  if (keeperOf(program.pidDir, program.name) !== null) return
  const keep = [
    '/bin/sh',
    join(sourceRoot(), 'packages/cli/src/host/keep.sh'),
    program.pidDir,
    program.name,
    program.logFile,
    ...program.argv,
  ]
  const [file, ...args] =
    program.netns === null ? keep : ['nsenter', `--net=/run/netns/${program.netns}`, '--', ...keep]
  const child = spawn(file as string, args, {
    detached: true,
    stdio: 'ignore',
    cwd: '/',
    env: {
      ...Object.fromEntries(
        INHERITED.flatMap((key) => (process.env[key] ? [[key, process.env[key]]] : [])),
      ),
      HOME: '/root',
      // Half of the time in which our programs start, and so of the time after which a killed one is back, is compiling.
      NODE_COMPILE_CACHE: compileCache(),
      ...program.environment,
      [OWNER_VARIABLE]: program.owner,
    },
  })
  child.on('error', () => {})
  child.unref()
}

/** Read by the keeper before each start. */
function writeLimits({ pidDir, name, limits }: Program): void {
  const file = join(pidDir, `${name}.limits`)
  if (limits === undefined) {
    rmSync(file, { force: true })
    return
  }
  const groups = [limits, ...(limits.others ?? [])].map(
    ({ cgroup, memoryMb, pids }) => `group ${cgroup} ${memoryMb * 1_048_576} ${pids}`,
  )
  const lines = [`oom ${limits.oomScoreAdj}`, ...groups]
  writeFileSync(`${file}.new`, `${lines.join('\n')}\n`)
  renameSync(`${file}.new`, file)
}

/** Asks keeper and program to end; kills them when they take longer than 10 s. */
export async function stopProgram(pidDir: string, name: string): Promise<void> {
  const keeper = keeperOf(pidDir, name)
  const pid = pidOf(pidDir, name)
  writeFileSync(join(pidDir, `${name}.stop`), '')
  if (keeper !== null) signal(keeper, 'SIGTERM')
  const untilMs = Date.now() + STOP_MS_MAX
  const pids = [keeper, pid].filter((one) => one !== null)
  while (pids.some(isAlive)) {
    if (Date.now() > untilMs) for (const one of pids) signal(one, 'SIGKILL')
    await sleep(20)
  }
  rmSync(join(pidDir, `${name}.stop`), { force: true })
}

/** Every program that runs, or whose keeper is just starting it again. */
export function programsIn(pidDir: string): RunningProgram[] {
  return namesIn(pidDir).flatMap((name) => {
    const pid = pidOf(pidDir, name)
    if (pid === null && keeperOf(pidDir, name) === null) return []
    const since = pid === null ? null : startedAt(pid)
    return [{ name, pid, since: since?.toISOString() ?? null, ended: endsOf(pidDir, name) }]
  })
}

function endsOf(pidDir: string, name: string): RunningProgram['ended'] {
  try {
    const text = readFileSync(join(pidDir, `${name}.ends`), 'utf8')
    const [times, soon, code, seconds] = text.trim().split(' ').map(Number)
    if (times === undefined || soon === undefined || code === undefined) return null
    return { times, soon, code, at: new Date((seconds ?? 0) * 1000).toISOString() }
  } catch {
    return null
  }
}

function namesIn(pidDir: string): string[] {
  try {
    return readdirSync(pidDir)
      .filter((file) => file.endsWith('.keeper'))
      .map((file) => file.slice(0, -'.keeper'.length))
      .sort()
  } catch {
    return []
  }
}

export function pidOf(pidDir: string, name: string): number | null {
  return livingPid(join(pidDir, `${name}.pid`))
}

function keeperOf(pidDir: string, name: string): number | null {
  return livingPid(join(pidDir, `${name}.keeper`))
}

function livingPid(file: string): number | null {
  try {
    const pid = Number(readFileSync(file, 'utf8'))
    return Number.isInteger(pid) && pid > 1 && isAlive(pid) ? pid : null
  } catch {
    return null
  }
}

/** kill -9; its keeper starts it again. */
export function killProgram(pidDir: string, name: string): number {
  const pid = pidOf(pidDir, name)
  if (pid === null) throw new PlatformError('precondition_failed', `${name} does not run just now`)
  signal(pid, 'SIGKILL')
  return pid
}
