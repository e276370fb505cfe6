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
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { leftovers, machinesWithNamespace, strayNamespaces } from './leftovers.ts'
import { destroyAllApps, NAME, PLAYGROUND, REGIONS } from './playground.ts'
import { eventually, type Playground, run, terminal } from './terminal.ts'

/**
 * A deploy of three machines on real hosts, and one program killed with -9 at one of its steps. It finishes or returns clearly, nothing is
 * left over, and the next deploy, in which the next one is killed, proceeds at once. The simulator does the same at every step of the plan.
 */
const APP = 'steps'
/** For a deploy to build, and for a release to begin. */
const PROCEEDS_MS = 15_000
const SETTLES_MS = 90_000

const home = mkdtempSync(join(tmpdir(), 'roost-kill-'))
const own = terminal(inject('home'))
const { begin, ok, json } = own
const folder = join(home, APP)
const planted = randomBytes(24).toString('hex')
/** As old as the secret. */
const stamp = join(home, 'stamp')
let edits = 0
let playground: Playground
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
  playground = await json<Playground>(['playground', 'status', ...PLAYGROUND])
  othersBefore = machinesWithNamespace()
  writeFileSync(stamp, '')
  mkdirSync(folder)
  const apps = join(import.meta.dirname, 'apps')
  cpSync(join(apps, 'server.js'), join(folder, 'server.js'))
  cpSync(join(apps, 'package.json'), join(folder, 'package.json'))
  edit()
  await ok(['launch', '--yes', '--name', APP, '--regions', REGIONS.join(',')], { cwd: folder })
  await ok(['secrets', 'set', `PLANTED=${planted}`, '-a', APP])
})

afterAll(async () => {
  await destroyAllApps(own)
  rmSync(home, { recursive: true, force: true })
})

/** Another image. `seconds`: for how long it is built, for one that is to be killed in the middle. */
function edit(seconds = 0): void {
  writeFileSync(
    join(folder, 'Dockerfile'),
    [
      'FROM node:22-slim',
      'WORKDIR /app',
      'COPY package.json server.js ./',
      `RUN sleep ${seconds} && echo ${++edits} > built.txt`,
      'EXPOSE 8080',
      'CMD ["node", "server.js"]',
      '',
    ].join('\n'),
  )
}

/** By one request instead of a command line: a step may be over before a busy machine has started one. */
async function releases(): Promise<readonly ReleaseAnswer[]> {
  const { server, token_file } = playground
  const { stdout } = await run([
    ...['curl', '-sk', '--fail-with-body', '-m', '5'],
    ...['-H', `Authorization: Bearer ${readFileSync(token_file, 'utf8').trim()}`],
    `${server}/api/v1/apps/${APP}/releases`,
  ])
  return JSON.parse(stdout)
}

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

/** Waits for the step of the deploy that has just begun, after release `last`. Nothing holds it up that was killed before. */
async function reached(when: (typeof KILLS)[number]['when'], last: number): Promise<void> {
  const newest = async () => (await releases()).find(({ version }) => version > last)
  await eventually(
    'it is built',
    PROCEEDS_MS,
    async () => builders().length > 0 || (when !== 'building' && newest()),
  )
  if (when === 'building') return
  await eventually('there is a release', 60_000, newest)
  await eventually('it proceeds', PROCEEDS_MS, async () => (await newest())?.status !== 'pending')
  await eventually(`the deploy is ${when}`, 60_000, async () => {
    const { version, status } = (await newest()) as ReleaseAnswer
    if (status === 'complete' || status === 'failed')
      throw new Error(`release ${version} is ${status} already`)
    return status === when
  })
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
    edit(when === 'building' ? 1 : 0)
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

    const clean = await eventually('nothing is left over', 30_000, async () => {
      const found = await notClean()
      if (found.length > 0) throw new Error(found.join('\n'))
      return true
    })
    console.log(
      `${who} killed while ${when}: the deploy ended with ${ended.code}, settled after ${over.afterMs} ms, clean after ${clean.afterMs} ms`,
    )
  })

  test('the next one, which nobody disturbs, is complete', async () => {
    const [newest] = await releases()
    await ok(['deploy', '--image', newest?.image ?? ''], { cwd: folder })
    expect((await releases())[0]).toMatchObject({
      version: (newest?.version ?? 0) + 1,
      status: 'complete',
    })
    await eventually('nothing is left over', 30_000, async () => (await notClean()).length === 0)
  })
})

describe('a secret', () => {
  /** Files of every file system but those in memory, as they are now: of those that were written since there is such a secret. */
  async function filesWithSecret(): Promise<string[]> {
    const patterns = `/dev/shm/roost-pattern-${process.pid}`
    writeFileSync(patterns, planted, { mode: 0o600 })
    try {
      const folders = '/var /tmp /home /etc'
      const written = `find ${folders} -type f -cnewer ${stamp} -print0`
      const { stdout } = await run(
        ['bash', '-c', `${written} | xargs -0 -r grep -laF --devices=skip -f ${patterns}`],
        { env: { ...process.env, LC_ALL: 'C' } },
      )
      return stdout.split('\n').filter((line) => line !== '')
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
    // What was put on a disk would be found.
    const seen = join(home, 'seen')
    writeFileSync(seen, `PLANTED=${planted}`)
    expect(await filesWithSecret()).toEqual([seen])
    rmSync(seen)
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
