import { enableCompileCache } from 'node:module'
import { processContext } from './cli-context.ts'
import { helpText } from './help-text.ts'

/** Help comes before anything is loaded that only other commands need: it must be there at once. */
const argv = process.argv.slice(2)
const [first] = argv
// `roost logs | head` ends when head has seen enough. Who closed standard error hears of nothing any more.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : 1)
})
process.stderr.on('error', () => {})
if (first === undefined || first === 'help' || first === '--help' || first === '-h') {
  const rest = first === 'help' ? argv.slice(1) : []
  if (rest.length === 0) process.stdout.write(helpText())
  else await run([...rest, '--help'])
} else if (first === '--version' || first === '-v' || first === 'version') {
  process.stdout.write('roost 0.1.0\n')
} else {
  await run(argv)
}

async function run(args: readonly string[]): Promise<void> {
  enableCompileCache()
  const { runCli } = await import('./run-cli.ts')
  const code = await runCli(args, processContext())
  // Kept connections would hold the process for some seconds. What was printed is written before it ends.
  process.exitCode = code
  process.stdout.write('', () => process.stderr.write('', () => process.exit(code)))
}
