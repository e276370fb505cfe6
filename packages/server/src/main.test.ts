import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, test } from 'vitest'

const MAIN = join(import.meta.dirname, 'main.ts')
const LIMIT = { timeout: 20_000, interval: 20 }
let folder: string
let config: string
let server: ChildProcess | null = null

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'server-'))
  config = join(folder, 'server.json')
  writeFileSync(
    config,
    JSON.stringify({
      dataDir: join(folder, 'data'),
      domain: 'roost.test',
      api: { addresses: ['127.0.0.1', '127.0.0.2'], port: 0, hostnames: ['localhost'] },
      internal: { address: '127.0.0.1', port: 0 },
      internalUrl: 'https://127.0.0.1:4281',
      registry: { url: 'https://127.0.0.1:5000', tokenBundle: join(folder, 'bundle.pem') },
      tokenFile: join(folder, 'token'),
      logFile: join(folder, 'log'),
    }),
  )
})
afterEach(async () => {
  if (server !== null && server.exitCode === null && server.signalCode === null) {
    server.kill('SIGKILL')
    await once(server, 'exit')
  }
  server = null
  rmSync(folder, { recursive: true })
})

interface Ready {
  readonly api: readonly [string, string]
}

async function start(): Promise<Ready> {
  rmSync(join(folder, 'log'), { force: true })
  server = spawn(process.execPath, [MAIN, '--config', config], { stdio: 'inherit' })
  const said = () =>
    existsSync(join(folder, 'log'))
      ? readFileSync(join(folder, 'log'), 'utf8')
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line))
      : []
  await expect.poll(() => said().some((line) => line.message === 'serving'), LIMIT).toBe(true)
  return said().find((line) => line.message === 'serving')
}

function get(at: string, path: string): Promise<{ status: number; body: unknown }> {
  const ca = readFileSync(join(folder, 'data', 'ca.pem'), 'utf8')
  const token = readFileSync(join(folder, 'token'), 'utf8').trim()
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}` }
    const asked = request(`https://${at}${path}`, { ca, headers, agent: false }, (reply) => {
      let text = ''
      reply.on('data', (chunk) => {
        text += chunk
      })
      reply.on('end', () => resolve({ status: reply.statusCode ?? 0, body: JSON.parse(text) }))
    })
    asked.on('error', reject)
    asked.end()
  })
}

test('the first start makes what it needs; later ones, also after kill -9, go on with it', async () => {
  const first = await start()
  const token = readFileSync(join(folder, 'token'), 'utf8')
  expect(token).toMatch(/^roost_[A-Za-z0-9_-]{43}\n$/)
  expect(statSync(join(folder, 'token')).mode & 0o777).toBe(0o600)
  for (const at of first.api)
    expect(await get(at, '/api/v1/whoami')).toMatchObject({
      status: 200,
      body: { name: 'administrator', actions: ['*'], domain: 'roost.test' },
    })
  server?.kill('SIGKILL')
  if (server) await once(server, 'exit')

  const second = await start()
  expect(readFileSync(join(folder, 'token'), 'utf8')).toBe(token)
  expect((await get(second.api[0], '/api/v1/whoami')).status).toBe(200)
  server?.kill('SIGTERM')
  expect(server && (await once(server, 'exit'))).toEqual([0, null])
})

test('what must be there before can be made before, any number of times', async () => {
  const init = async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [
      MAIN,
      '--config',
      config,
      '--init',
    ])
    return JSON.parse(stdout)
  }
  const [first, second] = [await init(), await init()]
  expect(first.ca).toBe(readFileSync(first.caFile, 'utf8'))
  expect({ ...second, joinToken: '' }).toEqual({ ...first, joinToken: '' })
  expect(second.joinToken).toMatch(/^roost_join_/)
  for (const file of ['registryCertificate', 'registryKey', 'tokenBundle', 'tokenFile'])
    expect(readFileSync(first[file], 'utf8')).not.toBe('')
})

test('a configuration that is none is named, with the field', async () => {
  writeFileSync(config, JSON.stringify({ dataDir: '/nowhere' }))
  const failed = await promisify(execFile)(process.execPath, [MAIN, '--config', config]).catch(
    (error: { code: number; stderr: string }) => error,
  )
  expect(failed).toMatchObject({ code: 1, stderr: expect.stringContaining('domain') })
})
