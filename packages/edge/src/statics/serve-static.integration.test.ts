import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { staticFolderName } from '@roost/base'
import { answersIn } from '@roost/core'
import { afterAll, afterEach, expect, test } from 'vitest'
import { openTrial, until } from '../trial-edge.ts'

const trial = await openTrial(9)
const { backend, get, load, raise, view } = trial
afterEach(() => trial.cleanUp())
afterAll(() => trial.close())

const image = (letter: string) => `sha256:${letter.repeat(64)}`
const statics = (letter: string, prefix = '/assets', folder = '/app/public') => ({
  image: image(letter),
  folders: [{ guest_path: folder, url_prefix: prefix }],
})

/** As the agent leaves them. */
async function copied(dir: string, letter: string, files: Record<string, string>) {
  const folder = join(dir, staticFolderName(image(letter), '/app/public'))
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true })
    await writeFile(join(folder, path), text)
  }
}

/** A machine whose files the edge serves, by now. */
async function serving(files: Record<string, string>) {
  const near = await backend(1)
  const raised = await raise()
  await copied(raised.config.statics?.dir ?? '', 'a', files)
  raised.server.put('machine', near.machine, view(near, { statics: statics('a') }))
  await raised.applied(raised.server.revision())
  await until(
    'files are served',
    async () => (await get({ path: '/assets/app.js' })).machine === null,
  )
  near.hits.count = 0
  return { near, ...raised }
}

test('a file is answered with by the edge, as conditions and ranges ask for it, and everything else by the app', async () => {
  const { near, edge } = await serving({
    ...{ 'app.js': 'export {}', 'a/ü b.txt': 'far down', '.env': 'SECRET=1', empty: '' },
  })
  const file = await get({ path: '/assets/app.js?v=1' })
  expect([file.status, file.text]).toEqual([200, 'export {}'])
  expect(file.headers).toMatchObject({
    ...{ 'content-type': 'application/javascript; charset=utf-8', 'content-length': '9' },
    ...{ 'accept-ranges': 'bytes', server: 'Roost' },
  })
  expect(file.headers['cache-control']).toBeUndefined()
  expect(Object.keys(file.headers).filter((name) => name.startsWith('roost'))).toEqual([])
  const { etag = '' } = file.headers
  const same = await get({ path: '/assets/app.js', headers: { 'if-none-match': etag } })
  expect([same.status, same.text]).toEqual([304, ''])
  const part = await get({ path: '/assets/app.js', headers: { range: 'bytes=0-5' } })
  expect([part.status, part.text, part.headers['content-range']]).toEqual([
    ...[206, 'export', 'bytes 0-5/9'],
  ])
  expect((await get({ path: '/assets/app.js', headers: { range: 'bytes=99-' } })).status).toBe(416)
  const head = await get({ path: '/assets/app.js', method: 'HEAD' })
  expect([head.status, head.text, head.headers['content-length']]).toEqual([200, '', '9'])
  expect((await get({ path: '/assets/a/%C3%BC%20b.txt' })).text).toBe('far down')
  expect(await get({ path: '/assets/empty' })).toMatchObject({ status: 200, text: '' })
  expect(near.hits.count).toBe(0)
  await until('it is counted, and for no machine', () =>
    edge.current
      .numbers()
      .recent('shop')
      .some((of) => of.machine === null && answersIn(of.traffic) > 5),
  )

  for (const path of [
    ...['/assets/none.js', '/assets/', '/assets', '/assets/a', '/assets/.env', '/', '/app.js'],
    ...['/assets/%2e%2e/app.js', '/assets/..%2f..%2fx', '/assets//app.js', '/assets/%zz'],
  ])
    expect([path, (await get({ path })).machine]).toEqual([path, near.machine])
  const post = await get({ path: '/assets/app.js', method: 'POST', body: 'x'.repeat(2_000_000) })
  expect(post.machine).toBe(near.machine)
  expect(near.bytes.count).toBe(2_000_000)
  expect(Object.keys(near.headers).filter((name) => name.startsWith('roost'))).toEqual([])
  // A client's word makes nothing a file.
  const forged = { 'roost-files': '1', 'roost-host': 'other', 'roost-answered': 'file' }
  expect((await get({ path: '/x', headers: forged })).machine).toBe(near.machine)
})

test('two releases side by side have the files of both, the newer first; when the older is gone so are its files', async () => {
  const { near, config, server, applied } = await serving({ 'app.js': 'one', 'old.js': 'old' })
  const next = await backend(2)
  await copied(config.statics?.dir ?? '', 'b', { 'app.js': 'two', 'new.js': 'new' })
  const newer = { status: { state: 'started', checks: [], startedAt: 2 } as never }
  await applied(
    server.put('machine', next.machine, view(next, { ...newer, statics: statics('b') })),
  )
  const texts = async () =>
    Promise.all(
      ['app.js', 'old.js', 'new.js'].map(async (name) => {
        const { text, machine } = await get({ path: `/assets/${name}` })
        return machine === null ? text : 'app'
      }),
    )
  // What was served a moment ago is for a moment more.
  const are = (...wanted: string[]) =>
    until(`they are ${wanted}`, async () => `${await texts()}` === `${wanted}`, 3000)
  await are('two', 'old', 'new')
  await applied(server.put('machine', near.machine, null))
  await are('two', 'app', 'new')
  // A release without files of its own.
  await applied(server.put('machine', next.machine, view(next)))
  await are('app', 'app', 'app')
})

test('nobody notices when the edge, HAProxy or what serves the files is killed', async () => {
  const { near, edge, config, start, masterPid } = await serving({ 'app.js': 'x'.repeat(50_000) })
  const traffic = load(50, '/assets/app.js')
  await edge.current.close()
  edge.current = await start()
  const serves = async () => (await get({ path: '/assets/app.js' })).machine === null
  await until('it serves again', serves)
  process.kill(await replayerOf(config.runDir), 'SIGKILL')
  await until('the app gets them', () => near.hits.count > 0)
  await until('it is back', async () => (await serves()) && (await serves()))
  process.kill(await masterPid(), 'SIGUSR2')
  await until('after a reload', serves)
  await until('enough was asked', () => traffic.sent() > 100)
  await traffic.stop()
  // What it carried when it was killed is lost.
  expect(traffic.failures.slice(2)).toEqual([])
})

async function replayerOf(runDir: string): Promise<number> {
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (line.includes('--replayer') && line.includes(runDir)) return Number(pid)
  }
  throw new Error('no replayer runs')
}
