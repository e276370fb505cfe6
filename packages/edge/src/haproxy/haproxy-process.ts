import { spawn } from 'node:child_process'
import {
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { type Clock, type Logger, PlatformError, runCommand } from '@roost/base'
import { KEEPER_NAME, KEEPER_SCRIPT } from './keeper-script.ts'
import { withListening } from './listening-sockets.ts'
import {
  HTTP_DESCRIPTOR,
  HTTPS_DESCRIPTOR,
  type ProxyBind,
  type ProxyFiles,
  scriptOf,
} from './render-config.ts'
import { askOnce } from './runtime-api.ts'

/**
 * HAProxy as a process that outlives the edge: a keeper that holds the sockets that listen, a master that re-executes itself to
 * reload, and workers that carry the traffic. When master or worker dies by force, both are gone, and the keeper starts them again from
 * the files: connections that were in them are lost, new ones wait for some hundredths of a second. When the keeper dies,
 * HAProxy goes on, and is started anew by whoever looks next, since nobody holds its sockets any more.
 */
export interface HaproxyProcess {
  /** What the running one was started with; null: none runs. */
  running(): Promise<RunningHaproxy | null>
  /** As `running`, and waits a little for one that its keeper starts at this moment. */
  returning(): Promise<RunningHaproxy | null>
  /** Ends what is left of an earlier one, and starts. Throws with HAProxy's own words when it can't. */
  start(what: ProxyStart): Promise<void>
  /** A new worker takes over the listeners; the old one finishes what it has. Keeps the old one when the new file is wrong. */
  reload(what: ProxyStart): Promise<void>
  /** Writes down what a HAProxy must have that is started again by its keeper. */
  save(what: ProxyStart): Promise<void>
  /** Workers that were replaced and still carry somebody's connections, with their `show stat` of servers. Throws when unknown. */
  oldWorkers(): Promise<readonly OldWorker[]>
  /** Ends it at once. */
  stop(): Promise<void>
}
export interface OldWorker {
  /** Its `show stat` of servers; empty when it ended in this moment. */
  readonly servers: string
  send(command: string): Promise<string>
}
export interface RunningHaproxy {
  readonly mark: string
  readonly workerPid: number
  /** Its keeper lives, and holds the sockets that are wanted. */
  readonly kept: boolean
}
export interface ProxyStart {
  readonly text: string
  readonly mark: string
  readonly hosts: ReadonlyMap<string, string>
  readonly secure: ReadonlySet<string>
  /** Further files that the text names, which lie beside those. */
  readonly more?: readonly ProxyFile[]
}
export interface ProxyFile {
  readonly path: string
  readonly content: string
}

const START_MS_MAX = 10_000
/** A keeper needs a tenth of this; one that can't start HAProxy from its files is helped with new ones. */
const RETURN_MS_MAX = 3000

export function createHaproxyProcess(options: {
  readonly binary: string
  readonly files: ProxyFiles
  /** In the order of their descriptors: HTTP, then HTTPS if there is any. */
  readonly binds: readonly ProxyBind[]
  /** Control group that all of it runs in, if there is one of that name; it lives on without us, and with limits of its own. */
  readonly cgroup?: string | undefined
  readonly clock: Clock
  readonly log: Logger
}): HaproxyProcess {
  const { binary, files, clock, log } = options
  const binds = options.binds.map(({ address, port }) => `${address}:${port}`).join(' ')

  async function masterPid(): Promise<number | null> {
    const pid = Number((await readFile(files.pid, 'utf8').catch(() => '')).trim())
    if (pid > 1 && (await isOurs(pid, files.config))) return pid
    // On a full disk it could not write its number down.
    const ours = (await processes(files.config)).filter(({ args }) => isHaproxy(args, files.config))
    const numbers = new Set(ours.map((found) => found.pid))
    for (const found of ours) if (!numbers.has(await parentOf(found.pid))) return found.pid
    return null
  }

  /** Of a keeper with the sockets that are wanted. */
  async function keeperPid(): Promise<number | null> {
    const found = (await processes(files.config)).find(
      ({ args }) => isKeeper(args, files.config) && args.at(-1) === binds,
    )
    return found?.pid ?? null
  }

  /** Its socket is asked first: while there is none, looking for its master would be a look at all processes, many times a second. */
  async function worker(): Promise<Omit<RunningHaproxy, 'kept'> | null> {
    const info = await askOnce(files.socket, 'show info').catch(() => '')
    const mark = /^description: (.*)$/m.exec(info)?.[1]
    const workerPid = Number(/^Pid: (\d+)$/m.exec(info)?.[1])
    if (mark === undefined || !(workerPid > 0)) return null
    return (await masterPid()) === null ? null : { mark, workerPid }
  }

  async function running(): Promise<RunningHaproxy | null> {
    const found = await worker()
    return found === null ? null : { ...found, kept: (await keeperPid()) !== null }
  }

  /** All files of one state in one folder, which takes effect as a whole: names must never lead to another state's slots. */
  async function write({ text, hosts, secure, more = [] }: ProxyStart): Promise<void> {
    const run = dirname(files.config)
    const folder = dirname(files.hostsMap)
    await mkdir(run, { recursive: true, mode: 0o700 })
    const before = await readlink(folder).catch(() => '')
    const next = before === 'files-a' ? 'files-b' : 'files-a'
    const inNext = (file: string) => join(run, next, basename(file))
    await rm(join(run, next), { recursive: true, force: true })
    await mkdir(join(run, next), { mode: 0o700 })
    const contents: readonly (readonly [string, string])[] = [
      [files.hostsMap, [...hosts].map(([name, slot]) => `${name} ${slot}\n`).join('')],
      [files.secureMap, [...secure].map((name) => `${name} 1\n`).join('')],
      [files.holdScript, scriptOf(files)],
      ...more.map(({ path, content }) => [path, content] as const),
      [files.config, text],
    ]
    for (const [file, content] of contents) await writeFile(inNext(file), content, { mode: 0o600 })
    await link(next, folder)
    await link(join(basename(folder), basename(files.config)), files.config)
  }

  async function untilServing(mark: string, not: number | null): Promise<void> {
    const deadline = performance.now() + START_MS_MAX
    for (;;) {
      const now = await worker()
      if (now !== null && now.mark === mark && now.workerPid !== not) return
      if (performance.now() > deadline) {
        const said = await readFile(files.log, 'utf8').catch(() => '')
        throw new PlatformError('unavailable', `wait for HAProxy to serve: ${said.slice(-500)}`, {
          retry: 'later',
        })
      }
      await clock.sleep(20)
    }
  }

  /** The keeper passes a SIGTERM on; what does not end by it is killed, the keeper first: it would start another. */
  async function endAll(gently: boolean): Promise<void> {
    const ours = async () =>
      (await processes(files.config))
        .filter(({ args }) => isHaproxy(args, files.config) || isKeeper(args, files.config))
        .toSorted(
          (a, b) => Number(isKeeper(b.args, files.config)) - Number(isKeeper(a.args, files.config)),
        )
    const lives = async ({ pid }: { pid: number }) => (await argsOf(pid, files.config)).length > 0
    const patientUntil = performance.now() + (gently ? 2000 : 0)
    const deadline = patientUntil + 2000
    let left = await ours()
    if (gently) for (const { pid } of left) kill(pid, 'SIGTERM')
    for (;;) {
      const alive = await Promise.all(left.map(lives))
      left = left.filter((_, n) => alive[n])
      // All processes are looked at again only once those are gone.
      if (left.length === 0) left = await ours()
      if (left.length === 0) return
      if (performance.now() >= patientUntil) for (const { pid } of left) kill(pid, 'SIGKILL')
      if (performance.now() > deadline)
        throw new PlatformError('internal', 'end HAProxy', { retry: 'later' })
      await clock.sleep(20)
    }
  }

  /** HAProxy's own words on what is wrong with it. The sockets are the keeper's alone, so others stand in. */
  async function check({ text, more = [] }: ProxyStart): Promise<void> {
    // It reads what is there now, which an edge of another version may have left without some of them.
    for (const { path, content } of more)
      await writeFile(path, content, { mode: 0o600, flag: 'wx' }).catch(() => {})
    const candidate = join(dirname(files.config), 'candidate.cfg')
    const standIn = text.replaceAll(
      new RegExp(`bind fd@(${HTTP_DESCRIPTOR}|${HTTPS_DESCRIPTOR})\\b`, 'g'),
      'bind 127.0.0.1:1',
    )
    await mkdir(dirname(candidate), { recursive: true, mode: 0o700 })
    await writeFile(candidate, standIn, { mode: 0o600 })
    try {
      await runCommand([binary, '-c', '-q', '-f', candidate])
    } finally {
      await rm(candidate, { force: true })
    }
  }

  async function keep(): Promise<void> {
    await withListening(options.binds, (descriptors) => {
      const child = spawn(
        '/bin/sh',
        [
          '-c',
          KEEPER_SCRIPT,
          KEEPER_NAME,
          binary,
          files.masterSocket,
          files.pid,
          files.config,
          files.log,
          options.cgroup ?? '',
          binds,
        ],
        { detached: true, stdio: ['ignore', 'ignore', 'ignore', ...descriptors], cwd: '/' },
      )
      child.on('error', (error) => log.error('HAProxy has no keeper', { error }))
      child.unref()
    })
  }

  return {
    running,
    async returning() {
      const deadline = performance.now() + RETURN_MS_MAX
      for (;;) {
        const found = await running()
        if (found !== null || (await keeperPid()) === null) return found
        if (performance.now() > deadline) return null
        await clock.sleep(20)
      }
    },
    async start(what) {
      const keeper = await keeperPid()
      if (keeper !== null && (await worker()) === null) {
        await write(what)
        kill(keeper, 'SIGUSR1')
        try {
          return await untilServing(what.mark, null)
        } catch (error) {
          log.warn('HAProxy does not come back by itself', { error })
        }
      }
      // One that still listens would take a share of the new connections to where nobody steers it.
      await endAll(false)
      await write(what)
      await check(what)
      await rm(files.pid, { force: true })
      await keep()
      await untilServing(what.mark, null)
      log.info('HAProxy started', { mark: what.mark })
    },
    async reload(what) {
      const pid = await masterPid()
      const before = await worker()
      if (pid === null || before === null)
        throw new PlatformError('unavailable', 'reload HAProxy: none runs', { retry: 'now' })
      await check(what)
      await write(what)
      process.kill(pid, 'SIGUSR2')
      await untilServing(what.mark, before.workerPid)
      log.info('HAProxy reloaded', { mark: what.mark })
    },
    save: write,
    async oldWorkers() {
      const listing = await askOnce(files.masterSocket, 'show proc')
      if (!listing.includes('# workers'))
        throw new PlatformError('unavailable', 'ask for old workers', { retry: 'later' })
      const old = listing.split('# old workers')[1]?.split('\n# ')[0] ?? ''
      const pids = [...old.matchAll(/^(\d+)\s+worker/gm)].map((match) => match[1] ?? '')
      return Promise.all(
        pids.map(async (pid) => {
          const send = (command: string) => askOnce(files.masterSocket, `@!${pid} ${command}`)
          return { servers: await send('show stat -1 4 -1').catch(() => ''), send }
        }),
      )
    },
    stop: () => endAll(true),
  }
}

type Args = readonly string[]

function isHaproxy(args: Args, config: string): boolean {
  return args.includes('-f') && args.includes(config)
}

function isKeeper(args: Args, config: string): boolean {
  return args.includes(KEEPER_NAME) && args.includes(config)
}

/**
 * Empty for a process without this among its arguments, which are nearly all; and for one of a machine, which may call itself anything:
 * it lives among processes of its own.
 */
async function argsOf(pid: number, config: string): Promise<Args> {
  const text = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
  const args = text.split('\0').slice(0, -1)
  if (!args.includes(config)) return []
  const home = (of: number | 'self') => readlink(`/proc/${of}/ns/pid`).catch(() => '')
  return (await home(pid)) === (await home('self')) ? args : []
}

async function parentOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  // The name may hold spaces and brackets; what follows it does not.
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1] ?? 0)
}

/** A process id may have been given to somebody else: only one that was started with our file is ours. */
async function isOurs(pid: number, config: string): Promise<boolean> {
  return isHaproxy(await argsOf(pid, config), config)
}

/** Of this host, with this among their arguments. */
async function processes(
  config: string,
): Promise<readonly { readonly pid: number; readonly args: Args }[]> {
  const names = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const found = await Promise.all(
    names.map(async (name) => ({ pid: Number(name), args: await argsOf(Number(name), config) })),
  )
  return found.filter(({ pid, args }) => pid !== process.pid && args.length > 0)
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // It is gone already.
  }
}

/** Points `path` to `target`, whatever was there. */
async function link(target: string, path: string): Promise<void> {
  if ((await readlink(path).catch(() => '')) === target) return
  const found = await lstat(path).catch(() => null)
  if (found?.isDirectory()) await rm(path, { recursive: true })
  await rm(`${path}.part`, { force: true })
  await symlink(target, `${path}.part`)
  await rename(`${path}.part`, path)
}
