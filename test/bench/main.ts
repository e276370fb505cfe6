import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Playground, ROOT, terminal } from '../e2e/terminal.ts'
import { measureApps } from './apps.ts'
import { measureCli } from './cli.ts'
import { measureDeploys } from './deploy.ts'
import { measureEdge } from './edge.ts'
import { measureHost } from './host.ts'
import { measureMachines } from './machine.ts'
import { measureMemory } from './memory.ts'
import { measureSuspend } from './suspend.ts'
import { Report } from './yardstick.ts'

/**
 * `make bench`: ours beside a yardstick in the same run. Arguments choose parts: of PARTS.
 * Limits of time and memory never fail anything here; the report says by how much a goal is missed.
 */
export const NAME = 'bench'
const REGIONS = ['ams', 'iad', 'syd']
/** `host`, `suspend` and `apps` want no playground. */
const PARTS = ['cli', 'suspend', 'host', 'apps', 'memory', 'machines', 'deploys', 'edge']
const parts = new Set(process.argv.slice(2))
const unknown = [...parts].filter((part) => !PARTS.includes(part))
if (unknown.length > 0)
  throw new Error(`there is no part ${unknown.join(', ')}: ${PARTS.join(', ')}`)
const wanted = (part: string) => parts.size === 0 || parts.has(part)

const home = mkdtempSync(join(tmpdir(), 'roost-bench-'))
const cli = terminal(home)
const report = new Report()

async function inPlayground(): Promise<void> {
  const playground = await cli.json<Playground>(['playground', 'status', '--name', NAME])
  const bench: Bench = {
    ...cli,
    name: NAME,
    playground,
    token: readFileSync(playground.token_file, 'utf8').trim(),
    folder: (app) => {
      const folder = join(home, app)
      cpSync(join(ROOT, 'examples/chat'), folder, { recursive: true })
      return folder
    },
    edit: (folder) => {
      const file = join(folder, 'server.js')
      writeFileSync(file, `${readFileSync(file, 'utf8')}\n// ${Date.now()}\n`)
    },
  }
  if (wanted('memory')) await measureMemory(report, bench)
  if (wanted('deploys') || wanted('edge') || wanted('machines')) await measureDeploys(report, bench)
  if (wanted('machines')) await measureMachines(report, bench)
  if (wanted('edge')) await measureEdge(report, bench)
}

export interface Bench extends ReturnType<typeof terminal> {
  readonly name: string
  readonly playground: Playground
  readonly token: string
  /** A copy of the example to launch under that name. */
  folder(app: string): string
  /** Changes a line of its source. */
  edit(folder: string): void
}

try {
  if (wanted('cli')) await measureCli(report)
  if (wanted('suspend')) await measureSuspend(report)
  if (wanted('host')) await measureHost(report)
  if (wanted('apps')) await measureApps(report)
  if (['memory', 'machines', 'deploys', 'edge'].some(wanted)) {
    await cli.roost(['playground', 'down', '--name', NAME])
    await cli.ok([
      'playground',
      'up',
      '--regions',
      REGIONS.join(','),
      '--network',
      '198.19',
      '--name',
      NAME,
    ])
    try {
      await inPlayground()
    } finally {
      await cli.roost(['playground', 'down', '--name', NAME])
    }
  }
  console.log(`\nwritten to ${report.write()}`)
} finally {
  rmSync(home, { recursive: true, force: true })
}
