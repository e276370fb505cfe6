import { randomBytes } from 'node:crypto'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { leftovers, machinesWithNamespace, strayNamespaces } from './leftovers.ts'
import { eventually, run, terminal } from './terminal.ts'

/**
 * A deploy of three machines on real hosts, and one program killed with -9 at one of its steps. It finishes or returns clearly, the next
 * deploy proceeds at once, and nothing is left over. The simulator does the same at every step of the plan.
 */
const REGIONS = ['ams', 'iad', 'syd']
const NAME = 'kill'
const PLAYGROUND = ['--name', NAME]
const APP = 'steps'
/** For the whole next deploy of an image that exists to begin. */
const PROCEEDS_MS = 15_000
const SETTLES_MS = 90_000

const home = mkdtempSync(join(tmpdir(), 'roost-kill-'))
const { begin, ok, json, roost } = terminal(home)
const folder = join(home, APP)
const planted = randomBytes(24).toString('hex')
let edits = 0
/** Machines of whatever else runs on this kernel. */
let othersBefore: readonly string[] = []

interface ReleaseAnswer {
  readonly version: number
  readonly status: 'pending' | 'starting' | 'draining' | 'complete' | 'reverting' | 'failed'
  readonly image: string
  readonly reason: string | null
}

/** When: a step of the deploy as it can be seen from outside. Who: the CLI, a build's own process, or a program of a host. */
const KILLS: readonly {
  when: 'building' | 'starting' | 'draining'
  who: string
  region?: string
}[] = [
  { when: 'building', who: 'cli' },
  { when: 'building', who: 'buildah' },
  { when: 'building', who: 'agent', region: 'ams' },
  { when: 'building', who: 'server', region: 'ams' },
  { when: 'starting', who: 'cli' },
  { when: 'starting', who: 'server', region: 'ams' },
  { when: 'starting', who: 'agent', region: 'iad' },
  { when: 'starting', who: 'containerd', region: 'syd' },
  { when: 'draining', who: 'server', region: 'ams' },
  { when: 'draining', who: 'agent', region: 'iad' },
]

beforeAll(async () => {
  await roost(['playground', 'down', ...PLAYGROUND])
  othersBefore = machinesWithNamespace()
  await ok([
    'playground',
    'up',
    '--regions',
    REGIONS.join(','),
    '--network',
    '198.52',
    ...PLAYGROUND,
  ])
  mkdirSync(folder)
  const apps = join(import.meta.dirname, 'apps')
  cpSync(join(apps, 'server.js'), join(folder, 'server.js'))
  cpSync(join(apps, 'package.json'), join(folder, 'package.json'))
  edit()
  await ok(['launch', '--yes', '--name', APP, '--regions', REGIONS.join(',')], { cwd: folder })
  await ok(['secrets', 'set', `PLANTED=${planted}`, '-a', APP])
})

afterAll(async () => {
  await roost(['playground', 'down', ...PLAYGROUND])
  rmSync(home, { recursive: true, force: true })
})

/** A build that takes long enough to be killed in the middle. */
function edit(): void {
  writeFileSync(
    join(folder, 'Dockerfile'),
    [
      'FROM node:22-slim',
      'WORKDIR /app',
      'COPY package.json server.js ./',
      `RUN sleep 1 && echo ${++edits} > built.txt`,
      'EXPOSE 8080',
      'CMD ["node", "server.js"]',
      '',
    ].join('\n'),
  )
}

const releases = () => json<readonly ReleaseAnswer[]>(['releases', '-a', APP])

function builders(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
        return /^\S*buildah /.test(command) && command.includes(`/${NAME}/`)
      } catch {
        return false
      }
    })
    .map(Number)
}

/** Waits for the step of the deploy that began after release `last`. */
async function reached(when: (typeof KILLS)[number]['when'], last: number): Promise<void> {
  const begun = async () => {
    if (when === 'building') return builders().length > 0
    const newest = (await releases())[0]
    if (newest === undefined || newest.version <= last) return false
    if (newest.status === 'complete' || newest.status === 'failed')
      throw new Error(`release ${newest.version} is ${newest.status} already`)
    return newest.status === when
  }
  await eventually(`the deploy is ${when}`, 60_000, begun)
}

async function kill(who: string, region: string | undefined, cli: number): Promise<void> {
  if (who === 'cli') process.kill(cli, 'SIGKILL')
  else if (who === 'buildah') for (const pid of builders()) process.kill(pid, 'SIGKILL')
  else await ok(['playground', 'fault', 'kill', who, '--region', region ?? 'ams', ...PLAYGROUND])
}

/** What is not as it is after a deploy that nobody disturbed. */
async function notClean(): Promise<string[]> {
  const { machines } = await json(['status', '-a', APP])
  const all = machines.map(({ id }) => id)
  const found = strayNamespaces([...all, ...othersBefore])
  for (const region of REGIONS) {
    const here = machines.filter((machine) => machine.region === region)
    if (here.length !== 1 || here[0]?.state !== 'started')
      found.push(`${region} has ${here.map(({ id, state }) => `${id} ${state}`).join(', ')}`)
    found.push(
      ...(await leftovers({ playground: NAME, region, machines: here.map(({ id }) => id), all })),
    )
  }
  if (builders().length > 0) found.push(`buildah still runs: ${builders().join(', ')}`)
  return found
}

describe('a program killed with -9 in the middle of a deploy', () => {
  test.each(KILLS)('$who while $when', { timeout: 240_000 }, async ({ when, who, region }) => {
    const last = (await releases())[0]?.version ?? 0
    edit()
    const cli = begin(['deploy'], { cwd: folder })
    await reached(when, last)
    await kill(who, region, cli.pid)
    const ended = await cli.ended
    // Finishes, or says clearly that it did not.
    if (who === 'cli') expect(ended.code).not.toBe(0)
    else if (ended.code !== 0) expect(ended.stderr).toMatch(/Error: .+/)

    const over = await eventually('no release is at work', SETTLES_MS, async () =>
      (await releases()).every(({ status }) => status === 'complete' || status === 'failed'),
    )
    const [newest] = await releases()
    expect(newest?.status, newest?.reason ?? '').toBe('complete')

    const nextBegan = performance.now()
    const next = begin(['deploy', '--image', newest?.image ?? ''], { cwd: folder })
    const proceeds = await eventually('the next deploy proceeds', PROCEEDS_MS, async () => {
      const [release] = await releases()
      return (
        release !== undefined &&
        release.version > (newest?.version ?? 0) &&
        release.status !== 'pending'
      )
    })
    const after = await next.ended
    expect(after.code, after.stderr).toBe(0)
    const clean = await eventually('nothing is left over', 30_000, async () => {
      const found = await notClean()
      if (found.length > 0) throw new Error(found.join('\n'))
      return true
    })
    console.log(
      `${who} killed while ${when}: the deploy ended with ${ended.code}, settled after ${over.afterMs} ms; ` +
        `the next one began after ${proceeds.afterMs} ms, was complete after ${Math.round(performance.now() - nextBegan)} ms; clean after ${clean.afterMs} ms`,
    )
  })
})

describe('a secret', () => {
  /** Files of every file system but those in memory, as they are now. */
  async function filesWithSecret(): Promise<string[]> {
    const patterns = `/dev/shm/roost-pattern-${process.pid}`
    writeFileSync(patterns, planted, { mode: 0o600 })
    try {
      const folders = ['/var', '/tmp', '/home', '/etc']
      const found = await run(['grep', '-rlaF', '--devices=skip', '-f', patterns, ...folders], {
        env: { ...process.env, LC_ALL: 'C' },
      })
      return found.stdout.split('\n').filter((line) => line !== '')
    } finally {
      rmSync(patterns)
    }
  }
  const ctr = (region: string, ...what: string[]) =>
    run(['ctr', '-a', `/run/roost/${NAME}/${region}/containerd.sock`, '-n', 'roost', ...what])

  test('is in the environment of the program and in no file of any disk: after all those deaths, a crash, a stop and the destruction', async () => {
    const { machines } = await json(['status', '-a', APP])
    const [crashing, stopping] = machines
    const pids = await ctr(crashing?.region ?? '', 'tasks', 'ps', crashing?.id ?? '')
    const environments = [...pids.stdout.matchAll(/^(\d+)\s/gm)].map(([, pid]) =>
      readFileSync(`/proc/${pid}/environ`, 'utf8'),
    )
    expect(environments.some((text) => text.includes(`PLANTED=${planted}`))).toBe(true)
    expect(await filesWithSecret()).toEqual([])
    // As an app that crashes and would leave a core file.
    await ctr(
      crashing?.region ?? '',
      'tasks',
      'kill',
      '--all',
      '--signal',
      'SIGSEGV',
      crashing?.id ?? '',
    )
    await eventually('it runs again', 30_000, async () => (await notClean()).length === 0)
    await ok(['machine', 'stop', stopping?.id ?? '', '-a', APP])
    expect(await filesWithSecret()).toEqual([])
    await ok(['apps', 'destroy', APP, '--yes'])
    expect(await filesWithSecret()).toEqual([])
  })
})
