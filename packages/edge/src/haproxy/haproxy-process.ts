import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type Clock, type Logger, PlatformError, runCommand } from '@roost/base'
import type { ProxyFiles } from './render-config.ts'
import { askOnce } from './runtime-api.ts'

/**
 * HAProxy as a process that outlives the edge: a master that re-executes itself to reload, and workers that carry the traffic.
 * When either dies by force, both are gone; whoever looks next starts it again.
 */
export interface HaproxyProcess {
  /** What the running one was started with; null: none runs. */
  running(): Promise<RunningHaproxy | null>
  /** Ends what is left of an earlier one, and starts. Throws with HAProxy's own words when it can't. */
  start(what: ProxyStart): Promise<void>
  /** A new worker takes over the listeners; the old one finishes what it has. Keeps the old one when the new file is wrong. */
  reload(what: ProxyStart): Promise<void>
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
}
export interface ProxyStart {
  readonly text: string
  readonly mark: string
  readonly hosts: ReadonlyMap<string, string>
  readonly secure: ReadonlySet<string>
}

const START_MS_MAX = 10_000
/** A group that is not there is no reason not to serve. */
const INTO_GROUP = `
group=$1 root=/sys/fs/cgroup
shift
[ -z "$group" ] || for file in "$root$group" "$root/memory$group" "$root/pids$group"; do
  [ ! -e "$file/cgroup.procs" ] || { echo $$ > "$file/cgroup.procs"; } 2> /dev/null
done
exec "$@"`

export function createHaproxyProcess(options: {
  readonly binary: string
  /** Control group that it runs in, if there is one of that name; it lives on without us, and with limits of its own. */
  readonly cgroup?: string | undefined
  readonly files: ProxyFiles
  readonly clock: Clock
  readonly log: Logger
}): HaproxyProcess {
  const { binary, cgroup = '', files, clock, log } = options

  async function masterPid(): Promise<number | null> {
    const pid = Number((await readFile(files.pid, 'utf8').catch(() => '')).trim())
    return pid > 1 && (await isOurs(pid, files.config)) ? pid : null
  }

  async function running(): Promise<RunningHaproxy | null> {
    if ((await masterPid()) === null) return null
    try {
      const info = await askOnce(files.socket, 'show info')
      const mark = /^description: (.*)$/m.exec(info)?.[1]
      const workerPid = Number(/^Pid: (\d+)$/m.exec(info)?.[1])
      return mark === undefined || !(workerPid > 0) ? null : { mark, workerPid }
    } catch {
      return null
    }
  }

  async function write({ text, hosts, secure }: ProxyStart): Promise<void> {
    await mkdir(dirname(files.config), { recursive: true, mode: 0o700 })
    await writeWhole(files.hostsMap, [...hosts].map(([name, slot]) => `${name} ${slot}\n`).join(''))
    await writeWhole(files.secureMap, [...secure].map((name) => `${name} 1\n`).join(''))
    await writeWhole(files.config, text)
  }

  async function untilServing(mark: string, not: number | null): Promise<void> {
    const deadline = clock.now() + START_MS_MAX
    for (;;) {
      const now = await running()
      if (now !== null && now.mark === mark && now.workerPid !== not) return
      if (clock.now() > deadline)
        throw new PlatformError('unavailable', 'wait for HAProxy to serve', { retry: 'later' })
      await clock.sleep(20)
    }
  }

  /** The master passes a SIGTERM on; what does not end by it is killed. */
  async function endAll(gently: boolean): Promise<void> {
    const master = gently ? await masterPid() : null
    if (master !== null) kill(master, 'SIGTERM')
    const patientUntil = clock.now() + (master === null ? 0 : 2000)
    const deadline = patientUntil + 2000
    for (;;) {
      const pids = await ourPids(files.config)
      if (pids.length === 0) return
      if (clock.now() >= patientUntil) for (const pid of pids) kill(pid, 'SIGKILL')
      if (clock.now() > deadline)
        throw new PlatformError('internal', 'end HAProxy', { retry: 'later' })
      await clock.sleep(20)
    }
  }

  return {
    running,
    async start(what) {
      // One that still listens would take a share of the new connections to where nobody steers it.
      await endAll(false)
      await write(what)
      await rm(files.pid, { force: true })
      await runCommand(
        [
          'sh',
          '-c',
          INTO_GROUP,
          'sh',
          cgroup,
          binary,
          '-W',
          '-D',
          '-S',
          `${files.masterSocket},mode,600`,
          '-p',
          files.pid,
          '-f',
          files.config,
        ],
        { timeoutMs: START_MS_MAX },
      )
      await untilServing(what.mark, null)
      log.info('HAProxy started', { mark: what.mark })
    },
    async reload(what) {
      const pid = await masterPid()
      const before = await running()
      if (pid === null || before === null)
        throw new PlatformError('unavailable', 'reload HAProxy: none runs', { retry: 'now' })
      const candidate = `${files.config}.new`
      await mkdir(dirname(candidate), { recursive: true, mode: 0o700 })
      await writeWhole(candidate, what.text)
      try {
        await runCommand([binary, '-c', '-q', '-f', candidate])
      } finally {
        await rm(candidate, { force: true })
      }
      await write(what)
      process.kill(pid, 'SIGUSR2')
      await untilServing(what.mark, before.workerPid)
      log.info('HAProxy reloaded', { mark: what.mark })
    },
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

/** A process id may have been given to somebody else: only one that was started with our file is ours. */
async function isOurs(pid: number, config: string): Promise<boolean> {
  const args = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0')
  return args.includes('-f') && args.includes(config)
}

async function ourPids(config: string): Promise<readonly number[]> {
  const names = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const pids: number[] = []
  for (const name of names) if (await isOurs(Number(name), config)) pids.push(Number(name))
  return pids.filter((pid) => pid !== process.pid)
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // It is gone already.
  }
}

async function writeWhole(path: string, text: string): Promise<void> {
  await writeFile(`${path}.part`, text, { mode: 0o600 })
  await rename(`${path}.part`, path)
}
