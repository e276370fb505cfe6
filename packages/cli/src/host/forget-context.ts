import { rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { contextsFile, readContexts, removeContext } from '../session/contexts.ts'
import { removeIfEmpty } from './sweep.ts'

/** The CLI no longer knows a server that is gone; when it knows no other, nothing of it stays in the home folder. */
export function forgetContext(name: string): void {
  removeContext(name)
  if (readContexts().all.length > 0) return
  const file = contextsFile()
  rmSync(file, { force: true })
  removeIfEmpty(dirname(file))
}
