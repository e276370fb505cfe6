/** Answers to questions about what a database holds, good until that changes. */
export interface KeptAnswers {
  /** The answer to `question`, from `work` when it is not known. Nobody may change it: it is given to others too. */
  kept<T>(question: string, work: () => Promise<T>): Promise<T>
  /** Call before each write, and when one is taken back. */
  changed(): void
}

/** Memory must be bounded: who asks more than this between two writes begins anew. */
const QUESTIONS_MAX = 300

export function createKeptAnswers(): KeptAnswers {
  const answers = new Map<string, unknown>()
  let changes = 0
  return {
    kept: async <T>(question: string, work: () => Promise<T>) => {
      if (answers.has(question)) return answers.get(question) as T
      const before = changes
      const answer = await work()
      if (before !== changes) return answer
      if (answers.size >= QUESTIONS_MAX) answers.clear()
      answers.set(question, answer)
      return answer
    },
    changed: () => {
      changes++
      answers.clear()
    },
  }
}
